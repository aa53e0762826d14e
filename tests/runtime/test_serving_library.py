"""What may be named to serve, and what it is called."""

from pathlib import Path

import pytest

from runtime.bundle import build, materialise
from runtime.bundle.blobs import BlobStore
from runtime.errors import InvalidError, PackhorseError
from runtime.inference.model import Model
from runtime.serving.errors import UnknownModelError
from runtime.serving.library import Library
from tests.support import archives, bundles, models


def loads(library: Library, name: str, version: str) -> bool:
    """Say whether a version's graph takes and gives what it should."""
    directory, index = library.open(name, version)
    return Model.load(directory, index).signature.inputs[0].name == "x"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return bundles.write(tmp_path / "b", name="scale")


def test_every_form_of_a_model_is_found_and_loads(tmp_path: Path, bundle: Path) -> None:
    built = build.build(bundle)
    blobs = BlobStore(tmp_path / "blobs")
    for digest, path in built.files.items():
        with path.open("rb") as stream:
            blobs.put_stream(digest, stream, limit_bytes=1 << 30)
    materialise.materialise(built.index, built.index_bytes, blobs, tmp_path / "m")
    models.write(tmp_path / "My Model.v2.onnx", models.linear_model())
    archives.write(tmp_path / "two.tar", bundle, bundles.write(tmp_path / "c", name="other"))
    lone = tmp_path / "dir"
    models.write(lone / "net.onnx", models.linear_model())

    library = Library(
        [
            str(bundle),
            f"pulled:7={tmp_path / 'm'}",
            str(tmp_path / "My Model.v2.onnx"),
            str(lone),
            f"again={lone}",
        ]
    )
    packed = Library([str(tmp_path / "two.tar")])

    assert library.versions() == [
        ("again", "1"),
        ("my-model-v2", "1"),
        ("net", "1"),
        ("pulled", "7"),
        ("scale", "1"),
    ]
    assert all(loads(library, *key) for key in library.versions())
    assert packed.versions() == [("other", "2"), ("scale", "1")]
    assert all(loads(packed, *key) for key in packed.versions())
    unpacked = packed.open("other", "2")[0]
    packed.close()
    assert not unpacked.exists()


def test_a_repository_is_looked_at_anew(tmp_path: Path) -> None:
    library = Library(repository=tmp_path)
    assert library.versions() == []

    for version in ("2", "10", "1"):
        bundles.write(tmp_path / "m" / version, name="called-otherwise")
    models.write(tmp_path / "n" / "v1" / "model.onnx", models.linear_model())
    (tmp_path / ".hidden" / "1").mkdir(parents=True)
    (tmp_path / "a-file").write_bytes(b"")

    assert library.versions() == [("m", "1"), ("m", "2"), ("m", "10"), ("n", "v1")]
    assert all(loads(library, *key) for key in library.versions())
    assert library.opened("m", "10") is not None
    assert library.opened("m", "11") is None
    with pytest.raises(UnknownModelError):
        library.open("m", "11")


def test_an_archive_in_a_repository_holds_one_version(tmp_path: Path, bundle: Path) -> None:
    place = tmp_path / "r" / "m" / "1"
    place.mkdir(parents=True)
    archives.write(place / "m.tar", bundle)
    library = Library(repository=tmp_path / "r")
    assert loads(library, "m", "1")
    library.close()

    archives.write(place / "m.tar", bundle, bundles.write(tmp_path / "c", name="other"))
    with pytest.raises(InvalidError, match="export each by itself"):
        Library(repository=tmp_path / "r").open("m", "1")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("nothing-here", "does not exist"),
        ("empty", "none of these"),
        ("two", "2 model files"),
        ("text.txt", "name a directory"),
        ("bad.tar", "models export"),
        ("bad-yaml", "name"),
        ("m:1=nothing-here", "does not exist"),
    ],
)
def test_what_is_no_model_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    for name in ("a.onnx", "b.onnx"):
        models.write(tmp_path / "two" / name, models.linear_model())
    (tmp_path / "text.txt").write_text("x")
    (tmp_path / "bad.tar").write_bytes(b"x" * 2000)
    (tmp_path / "bad-yaml").mkdir()
    (tmp_path / "bad-yaml" / "bundle.yaml").write_text("kind: onnx\n")

    with pytest.raises(PackhorseError, match=text):
        Library([path])


def test_the_same_name_twice_is_refused(tmp_path: Path, bundle: Path) -> None:
    with pytest.raises(InvalidError, match="twice"):
        Library([str(bundle), str(bundle)])
    assert len(Library([str(bundle), f"scale:2={bundle}"]).versions()) == 2
    with pytest.raises(InvalidError, match="--repository"):
        Library(repository=tmp_path / "none")
