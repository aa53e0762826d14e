import os
from pathlib import Path

import msgspec
import pytest

from runtime.bundle import index
from runtime.bundle.blobs import BlobStore
from runtime.bundle.build import Built, build
from runtime.bundle.index import FileEntry
from runtime.bundle.materialise import INDEX_NAME, is_materialised, materialise
from runtime.errors import IntegrityError, InvalidError
from tests.support import powercuts
from tests.support.bundle_sources import write_checked_bundle


@pytest.fixture
def built(tmp_path: Path) -> Built:
    source = write_checked_bundle(tmp_path / "source")
    (source / "tool").write_text("#!/bin/sh\n")
    (source / "tool").chmod(0o755)
    return build(source)


@pytest.fixture
def blobs(tmp_path: Path, built: Built) -> BlobStore:
    store = BlobStore(tmp_path / "blobs")
    for digest, path in built.files.items():
        store.put_file(digest, path)
    return store


def test_the_directory_builds_to_the_same_bundle(
    tmp_path: Path, built: Built, blobs: BlobStore
) -> None:
    target = tmp_path / "releases" / "one"

    materialise(built.index, built.index_bytes, blobs, target)

    assert build(target).digest == built.digest
    assert (target / INDEX_NAME).read_bytes() == built.index_bytes
    assert is_materialised(built.index_bytes, target)


def test_files_are_links_and_executables_are_copies(
    tmp_path: Path, built: Built, blobs: BlobStore
) -> None:
    target = tmp_path / "one"
    materialise(built.index, built.index_bytes, blobs, target)

    by_path = {entry.path: blobs.path(entry.sha256) for entry in built.index.files}
    assert (target / "model.onnx").samefile(by_path["model.onnx"])
    assert not (target / "tool").samefile(by_path["tool"])
    assert os.access(target / "tool", os.X_OK)
    assert by_path["tool"].stat().st_mode & 0o777 == 0o400


def test_a_second_time_changes_nothing(tmp_path: Path, built: Built, blobs: BlobStore) -> None:
    target = tmp_path / "one"
    materialise(built.index, built.index_bytes, blobs, target)
    before = target.stat().st_ino
    materialise(built.index, built.index_bytes, blobs, target)

    assert target.stat().st_ino == before


def test_a_directory_of_another_bundle_is_replaced(
    tmp_path: Path, built: Built, blobs: BlobStore
) -> None:
    target = tmp_path / "one"
    target.mkdir()
    (target / "stray").write_text("")

    materialise(built.index, built.index_bytes, blobs, target)

    assert build(target).digest == built.digest


def test_a_missing_or_cut_blob_is_fetched_again_not_linked(
    tmp_path: Path, built: Built, blobs: BlobStore
) -> None:
    model = next(entry for entry in built.index.files if entry.path == "model.onnx")
    blobs.path(model.sha256).chmod(0o600)
    blobs.path(model.sha256).write_bytes(b"cut")
    with pytest.raises(IntegrityError, match=r"blob of model\.onnx: .*got 3 bytes"):
        materialise(built.index, built.index_bytes, blobs, tmp_path / "one")
    blobs.delete(model.sha256)
    with pytest.raises(IntegrityError, match=r"blob of model\.onnx: .*got nothing"):
        materialise(built.index, built.index_bytes, blobs, tmp_path / "one")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["blobs", "source"]


@pytest.mark.parametrize("path", [INDEX_NAME, "model.onnx/inner", "golden", "../outside"])
def test_an_index_that_no_directory_can_hold_is_refused(
    tmp_path: Path, built: Built, blobs: BlobStore, path: str
) -> None:
    model = next(entry for entry in built.index.files if entry.path == "model.onnx")
    hostile = msgspec.structs.replace(
        built.index, files=(*built.index.files, FileEntry(path, model.size, model.sha256))
    )

    with pytest.raises(InvalidError):
        materialise(hostile, index.encode(hostile), blobs, tmp_path / "one")
    assert not (tmp_path / "one").exists()


def test_a_power_cut_at_any_step_leaves_all_or_nothing(
    tmp_path: Path, built: Built, blobs: BlobStore
) -> None:
    with powercuts.after(None) as counted:
        materialise(built.index, built.index_bytes, blobs, tmp_path / "counted")
    for steps in range(counted.seen):
        target = tmp_path / f"cut-{steps}"
        with powercuts.after(steps):
            materialise(built.index, built.index_bytes, blobs, target)
        assert not target.exists() or build(target).digest == built.digest
        materialise(built.index, built.index_bytes, blobs, target)
        assert build(target).digest == built.digest
    assert counted.seen >= 6
