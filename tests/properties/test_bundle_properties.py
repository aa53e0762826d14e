import contextlib
import io
import random
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.bundles import partfile
from edge_agent.bundles.fetch import FetchCancelledError, Fetcher
from edge_agent.bundles.partfile import PartFile
from runtime import digests
from runtime.bundle import arrays, encodings, parts, source
from runtime.bundle.blobs import BlobStore
from runtime.bundle.build import Built
from runtime.bundle.parts import PART_BYTES
from runtime.errors import IntegrityError, InvalidError, LinkError
from runtime.retry import Backoff
from tests.support.bundle_sources import write_bundle
from tests.support.httpfiles import NO_FAULT, Fault, FileServer

SHA256 = digests.of_bytes(b"a table")
BIG = random.Random(7).randbytes(2 * PART_BYTES + 12345)
GOOD_YAML = (
    b"name: wear\nkind: onnx\nmodel: model.onnx\nentry: run.py\n"
    b"check: {inputs: in.npz, rtol: 1e-3}\nresources: {cpu: 1.5}\ntags: {a: b}\n"
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FileServer, Built]]:
    place = tmp_path_factory.mktemp("served")
    bundle = write_bundle(place / "source")
    (bundle / "table.bin").write_bytes(BIG)
    with FileServer(place / "registry").running() as server:
        yield server, server.add(bundle)


fault_lists = st.lists(
    st.one_of(
        st.builds(Fault, cut_after=st.integers(0, PART_BYTES)),
        st.builds(Fault, drop_bytes=st.integers(1, 100)),
        st.builds(Fault, status=st.sampled_from([403, 429, 500, 503])),
        st.just(Fault(close=True)),
        st.just(NO_FAULT),
    ),
    max_size=12,
)


@settings(max_examples=25)
@given(faults=fault_lists, restart_every=st.integers(1, 5))
def test_any_sequence_of_cuts_ends_with_the_right_bytes(
    served: tuple[FileServer, Built], faults: list[Fault], restart_every: int
) -> None:
    """A cut costs no byte, for this process or the next."""
    server, built = served
    left = list(faults)
    server.plan = lambda _path, _number: left.pop() if left else NO_FAULT
    server.requests.clear()
    with tempfile.TemporaryDirectory() as name:
        device = BlobStore(Path(name) / "blobs")

        def fetch() -> None:
            backoff = Backoff(first_s=1e-4, most_s=1e-4)
            work = Path(name) / "work"
            fetcher = Fetcher(device, work, server.answer, None, reserve_bytes=0, backoff=backoff)
            seen = len(server.requests)

            fetcher.fetch(
                built.digest,
                cancelled=lambda: bool(left) and len(server.requests) >= seen + restart_every,
            )

        while left:
            with contextlib.suppress(FetchCancelledError, IntegrityError, LinkError):
                fetch()
        fetch()
        for digest in (built.digest, *built.files):
            device.check(digest)
        assert list((Path(name) / "work").iterdir()) == []


@given(have=st.lists(st.booleans(), max_size=100), noise=st.binary(min_size=1, max_size=3))
def test_a_bitmap_is_read_back_and_no_other_is_believed(have: list[bool], noise: bytes) -> None:
    wanted = bytearray(have)
    data = partfile.encode_bitmap(SHA256, wanted)
    nothing = bytearray(len(have))

    assert partfile.decode_bitmap(data, SHA256, len(have)) == wanted
    assert partfile.decode_bitmap(data, digests.of_bytes(b"other"), len(have)) == nothing
    assert partfile.decode_bitmap(data + noise, SHA256, len(have)) == nothing
    assert partfile.decode_bitmap(data[: -len(noise)], SHA256, len(have)) == nothing
    assert partfile.decode_bitmap(data, SHA256, len(have) + 1) == bytearray(len(have) + 1)


@settings(max_examples=60)
@given(
    content=st.binary(min_size=1, max_size=60),
    part_size=st.integers(1, 20),
    on_disk=st.binary(max_size=80),
    bitmap=st.one_of(st.none(), st.binary(max_size=60)),
    right_up_to=st.integers(0, 60),
)
def test_whatever_lies_on_the_disk_only_right_parts_count(
    content: bytes, part_size: int, on_disk: bytes, bitmap: bytes | None, right_up_to: int
) -> None:
    table = parts.cut(SHA256, 9, "zstd", io.BytesIO(content), part_size=part_size)
    found = content[:right_up_to] + on_disk
    with tempfile.TemporaryDirectory() as name:
        path, bitmap_path = partfile.paths(Path(name), SHA256, "zstd")
        path.write_bytes(found)
        if bitmap is not None:
            bitmap_path.write_bytes(bitmap)
        part_file = PartFile(Path(name), table, SHA256)
        try:
            missing = set(part_file.missing())
            for part in range(len(table.parts)):
                start, stop = table.span(part)
                assert (part in missing) == (found[start:stop] != content[start:stop])
            for part in sorted(missing):
                start, stop = table.span(part)
                begun = part_file.begun(part)
                part_file.write(part, begun, content[start + begun : stop])
                if not part_file.complete(part):
                    assert part_file.begun(part) == 0
                    part_file.write(part, 0, content[start:stop])
                    assert part_file.complete(part)
            assert part_file.done_bytes == len(content)
        finally:
            part_file.close()
        assert path.read_bytes() == content


@settings(max_examples=40)
@given(data=st.binary(max_size=5000), repeat=st.integers(1, 50))
def test_encoding_and_decoding_are_inverse(data: bytes, repeat: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        blobs, device = BlobStore(Path(name) / "blobs"), BlobStore(Path(name) / "device")
        digest = blobs.put_bytes(data * repeat)
        encoded = Path(name) / "encoded"
        encodings.encode("zstd", blobs.path(digest), encoded)
        with encoded.open("rb") as file:
            table = parts.cut(digest, len(data) * repeat, "zstd", file)
        assert parts.decode(parts.encode(table)) == table
        encodings.decode("zstd", encoded, device, size=len(data) * repeat, sha256=digest)
        device.check(digest)


@settings(max_examples=60)
@given(garbage=st.binary(max_size=300))
def test_garbage_decodes_to_nothing(garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        encoded, device = Path(name) / "encoded", BlobStore(Path(name) / "device")
        encoded.write_bytes(garbage)
        with pytest.raises(IntegrityError):
            encodings.decode("zstd", encoded, device, size=300, sha256=SHA256)
        assert list(device.digests()) == []


@given(text=st.one_of(st.binary(max_size=200), st.text(max_size=200).map(str.encode)))
def test_any_bytes_as_bundle_yaml_are_refused_in_words(text: bytes) -> None:
    with pytest.raises(InvalidError):
        source.parse_source(text)


@settings(max_examples=300)
@given(
    at=st.integers(0, len(GOOD_YAML)),
    cut=st.integers(0, 10),
    put=st.one_of(
        st.binary(max_size=8),
        st.text("{}[]:-?!&*|>'\"#%@`,\n \t~<=.0123xyeE+_", max_size=8).map(str.encode),
    ),
)
def test_a_damaged_bundle_yaml_is_read_or_refused_in_words(at: int, cut: int, put: bytes) -> None:
    text = GOOD_YAML[:at] + put + GOOD_YAML[at + cut :]
    try:
        seen = source.parse_source(text)
    except InvalidError:
        return
    assert seen.kind == "onnx"


@settings(max_examples=100)
@given(flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 255)), max_size=4))
def test_damaged_arrays_are_read_or_refused_in_words(flips: list[tuple[int, int]]) -> None:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, x=np.zeros((2, 3), np.float32), y=np.array(["a"]))
    data = bytearray(buffer.getvalue())
    for at, change in flips:
        data[at % len(data)] ^= change
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "arrays.npz"
        path.write_bytes(data)
        try:
            seen = arrays.headers(path, "check.inputs")
        except InvalidError:
            return
    assert len(seen) == len(zipfile.ZipFile(io.BytesIO(data)).infolist())


@given(garbage=st.one_of(st.binary(max_size=200), st.text(max_size=100).map(str.encode)))
def test_garbage_is_no_part_table(garbage: bytes) -> None:
    with pytest.raises(InvalidError):
        parts.decode(garbage)
