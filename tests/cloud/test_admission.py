"""What a registry lets in, by the bytes of real blobs."""

import pickle
from fractions import Fraction
from pathlib import Path

import msgspec
import pytest

from cloud.registry import admission
from cloud.settings import Settings
from cloud.storage.blobs import Blobs
from cloud.storage.opening import open_store
from runtime.bundle.build import Built, build
from runtime.errors import InvalidError
from tests.support import registries, scripts
from tests.support.bundle_sources import write_bundle
from tests.support.registries import Stores

PICKLED = pickle.dumps(Fraction(1, 3))


def stored(tmp_path: Path, built: Built, stores: Stores = registries.SQLITE) -> Blobs:
    """Return blobs, in a directory or a bucket, that hold all of a bundle's files."""
    blobs = Blobs(open_store(Settings(data=tmp_path / "data", **stores.settings)))
    for digest, path in built.files.items():
        blobs.put_file(digest, path)
    return blobs


def pickled(tmp_path: Path, name: str, data: bytes) -> Built:
    directory = scripts.write(tmp_path / "bundle")
    (directory / name).write_bytes(data)
    return build(directory)


def test_data_and_scripts_are_let_in_by_default(tmp_path: Path) -> None:
    for directory in (write_bundle(tmp_path / "graph"), scripts.write(tmp_path / "script")):
        built = build(directory)
        admission.require(stored(tmp_path, built), built.index, ("entry-script",))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("model.bin", PICKLED),
        ("model.zip", scripts.zipped(data=PICKLED)),
        ("model.joblib", b"named like one"),
    ],
)
def test_a_pickle_is_refused_and_the_switch_named_also_if_the_index_is_silent(
    tmp_path: Path, stores: Stores, name: str, data: bytes
) -> None:
    built = pickled(tmp_path, name, data)
    silent = msgspec.structs.replace(built.index, needs=())

    blobs = stored(tmp_path, built, stores)
    with pytest.raises(InvalidError) as caught:
        admission.require(blobs, silent, ("entry-script",))

    assert caught.value.field == f"files[{name}]"
    assert "start the registry with --allow pickle" in str(caught.value)
    admission.require(blobs, built.index, ("pickle",))


def test_a_registry_may_refuse_scripts_too(tmp_path: Path) -> None:
    built = build(scripts.write(tmp_path / "script"))

    with pytest.raises(InvalidError, match="--allow entry-script"):
        admission.require(stored(tmp_path, built), built.index, ())


def test_a_large_archive_is_read_in_pieces(tmp_path: Path, stores: Stores) -> None:
    noise = bytes(range(256)) * 4096
    built = pickled(tmp_path, "a.zip", scripts.zipped(noise=noise, last=PICKLED))

    with pytest.raises(InvalidError, match=r"files\[a\.zip\]"):
        admission.require(stored(tmp_path, built, stores), built.index, ("entry-script",))
