"""The file in which versions travel where no wire goes."""

import io
import subprocess
import tarfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import digests
from runtime.bundle import archive, index
from runtime.bundle.archive import Archive, Blob, Entry, Manifest
from runtime.bundle.blobs import BlobStore
from runtime.bundle.index import FileEntry, Index, Signature, TensorSpec
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError, PackhorseError

TENSOR = TensorSpec("x", "FP32", (-1, 2))


def packed(*contents: bytes, origin: str = "0" * 64) -> tuple[Manifest, dict[Digest, bytes]]:
    """Return the manifest of one version for each content, and all blobs."""
    blobs: dict[Digest, bytes] = {}
    entries = []
    for number, content in enumerate(contents, 1):
        file = FileEntry("model.onnx", len(content), digests.of_bytes(content))
        made = Index(1, "m", "onnx", "model.onnx", (file,), Signature((TENSOR,), (TENSOR,)))
        data = index.encode(made)
        blobs |= {file.sha256: content, digests.of_bytes(data): data}
        entries.append(Entry("m", number, digests.of_bytes(data)))
    listed = tuple(Blob(name, len(blobs[name])) for name in sorted(blobs))
    return Manifest(1, origin, tuple(entries), listed), blobs


def written(manifest: Manifest, blobs: dict[Digest, bytes]) -> bytes:
    stream = io.BytesIO()
    archive.write(manifest, lambda digest: [blobs[digest]], stream)
    return stream.getvalue()


def opened(data: bytes) -> Archive:
    return Archive(io.BytesIO(data))


@given(st.lists(st.binary(max_size=2000), min_size=1, max_size=4, unique=True))
def test_what_goes_in_comes_out_and_the_file_is_always_the_same(contents: list[bytes]) -> None:
    manifest, blobs = packed(*contents)

    data = written(manifest, blobs)
    found = opened(data)

    assert data == written(manifest, blobs)
    assert len(data) == archive.size_of(manifest)
    assert found.manifest == manifest
    assert {name: found.open(name).read() for name in blobs} == blobs


def test_any_tar_program_can_unpack_it(tmp_path: Path) -> None:
    manifest, blobs = packed(b"one", b"two")
    (tmp_path / "x.tar").write_bytes(written(manifest, blobs))
    subprocess.run(["tar", "-xf", "x.tar"], cwd=tmp_path, check=True)
    with tarfile.open(tmp_path / "x.tar", mode="r:") as tar:
        members = tar.getmembers()

    assert (tmp_path / "packhorse.json").read_bytes() == archive.encode(manifest)
    assert {each.name for each in members} == {
        "packhorse.json", *(f"blobs/{name}" for name in blobs)
    }  # fmt: skip
    assert {(each.mtime, each.uid, each.gid, each.mode, each.uname) for each in members} == {
        (0, 0, 0, 0o644, "")
    }


def test_a_size_beyond_octal_digits_is_written_as_tar_programs_read_it() -> None:
    header = archive._header("blobs/x", 9 << 30)

    assert tarfile.TarInfo.frombuf(header, "utf-8", "strict").size == 9 << 30


def test_wrong_bytes_are_not_written() -> None:
    manifest, blobs = packed(b"one")

    with pytest.raises(IntegrityError):
        archive.write(manifest, lambda digest: [blobs[digest][:-1]], io.BytesIO())


def test_damaged_bytes_do_not_get_into_a_store(tmp_path: Path) -> None:
    manifest, blobs = packed(b"one")
    data = written(manifest, blobs).replace(b"one", b"two")
    found, store = opened(data), BlobStore(tmp_path)

    with pytest.raises(IntegrityError):
        store.put_stream(
            digests.of_bytes(b"one"), found.open(digests.of_bytes(b"one")), limit_bytes=3
        )
    assert list(store.digests()) == []


def foreign(members: list[tarfile.TarInfo], contents: list[bytes]) -> bytes:
    """Return what a hostile writer made with a tar library."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:", format=tarfile.USTAR_FORMAT) as tar:
        for info, content in zip(members, contents, strict=True):
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def link(name: str) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return made


def hostile() -> dict[str, bytes]:
    manifest, blobs = packed(b"one")
    (first, a), (second, b) = sorted(blobs.items())
    head, json = tarfile.TarInfo("packhorse.json"), archive.encode(manifest)
    one, two = tarfile.TarInfo(f"blobs/{first}"), tarfile.TarInfo(f"blobs/{second}")
    up = tarfile.TarInfo(f"blobs/../{first}")
    return {
        "empty": foreign([], []),
        "absolute": foreign([tarfile.TarInfo("/etc/passwd")], [b"x"]),
        "no blobs": foreign([head], [json]),
        "a link": foreign([head, link(f"blobs/{first}"), two], [json, b"", b]),
        "one twice": foreign([head, one, one, two], [json, a, a, b]),
        "another path": foreign([head, up, two], [json, a, b]),
        "a manifest that is a link": foreign([link("packhorse.json")], [b""]),
        "not json": foreign([head, one, two], [b"{" * 5000, a, b]),
    }


@pytest.mark.parametrize("data", hostile().values(), ids=hostile())
def test_a_tar_of_somebody_else_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidError):
        opened(data)


@given(st.data())
def test_no_other_bytes_make_the_same_archive(data: st.DataObject) -> None:
    """One byte more, less or other is refused, at once or when the blob is stored."""
    manifest, blobs = packed(b"one", b"two")
    whole = bytearray(written(manifest, blobs))
    place = data.draw(st.integers(0, len(whole) - 1))
    change = data.draw(st.sampled_from(["cut", "more", "flip"]))
    altered = {
        "cut": whole[:place],
        "more": whole + b"\0" * (1 + place),
        "flip": whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :],
    }[change]

    try:
        found = opened(bytes(altered))
    except PackhorseError:
        return
    contents = {name: found.open(name).read() for name in blobs}
    damaged = {name for name, content in contents.items() if digests.of_bytes(content) != name}
    assert damaged or found.manifest != manifest


def test_what_a_manifest_cannot_say_is_refused() -> None:
    manifest, _ = packed(b"one", b"two")
    change = msgspec.structs.replace
    first, entry = manifest.blobs[0], manifest.versions[0]
    bad = [
        change(manifest, versions=()),
        change(manifest, versions=(entry, entry)),
        change(manifest, versions=(change(entry, version=0),)),
        change(manifest, versions=(change(entry, bundle=Digest("f" * 64)),)),
        change(manifest, blobs=(first, *manifest.blobs)),
        change(manifest, blobs=manifest.blobs[::-1]),
        change(manifest, blobs=(change(first, size=-1), *manifest.blobs[1:])),
        change(manifest, blobs=(change(first, sha256=Digest("../../etc")), *manifest.blobs[1:])),
    ]

    for each in bad:
        with pytest.raises(InvalidError):
            archive.validate(each)


def test_blobs_that_no_version_needs_are_refused() -> None:
    manifest, blobs = packed(b"one", b"two")
    alone = msgspec.structs.replace(manifest, versions=manifest.versions[:1])

    with pytest.raises(InvalidError, match="nothing else"):
        opened(written(alone, blobs))


def test_a_newer_format_says_what_to_do() -> None:
    manifest, blobs = packed(b"one")
    newer = msgspec.structs.replace(manifest, format=2)

    with pytest.raises(InvalidError, match="use the newer one"):
        opened(written(newer, blobs))
