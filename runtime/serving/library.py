"""Where a server's models lie: paths that were named, and a directory of many.

    a directory with bundle.yaml      as its author left it; built when it is loaded
    a directory with .index.json      as `packhorse models pull` and the agent leave it
    a directory with one of the rest  MODEL.onnx or FILE.tar, and nothing else of these kinds
    FILE.tar                          as `packhorse models export` made it: all versions asked for
    MODEL.onnx                        a graph alone, called like its file

NAME:VERSION=PATH calls what lies at a path otherwise than it calls itself; a bundle that knows no
version of its own is version 1. The directory holds NAME/VERSION/, each one of the above.
"""

import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from runtime import digests
from runtime.bundle import index as bundle_index
from runtime.bundle import names, variants
from runtime.bundle.archive import Archive
from runtime.bundle.blobs import BlobStore
from runtime.bundle.index import FORMAT, FileEntry, Index
from runtime.bundle.materialise import INDEX_NAME, materialise
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.serving.errors import UnknownModelError

if TYPE_CHECKING:
    from runtime.inference.session import Session

SOURCE_NAME = "bundle.yaml"
FIRST_VERSION = "1"
_CALLED = re.compile(r"([a-z0-9-]{1,63})(?::([A-Za-z0-9][A-Za-z0-9._-]{0,63}))?=(.+)\Z", re.DOTALL)
_NOT_IN_A_NAME = re.compile(r"[^a-z0-9]+")
_PARTS = re.compile(r"(\d+)")


class Item(NamedTuple):
    """One version and where it lies."""

    name: str
    version: str
    path: Path
    bundle: Digest | None = None
    """Of a version in a file of several."""


class Library:
    """Implements runtime.serving.repository.Shelf."""

    def __init__(self, paths: Sequence[str] = (), repository: Path | None = None) -> None:
        """Look at what was named; raise InvalidError for what is no model, or is there twice."""
        self.named = [item for path in paths for item in _items(path)]
        """What was named path by path."""
        self._repository = repository
        self._opened: dict[tuple[str, str], tuple[Path, Index]] = {}
        self._graphs: dict[tuple[str, str], Session] = {}
        """Loaded to be opened, and not yet given away."""
        self._unpacked: dict[Digest, tempfile.TemporaryDirectory[str]] = {}
        if repository is not None and not repository.is_dir():
            raise InvalidError("--repository", str(repository), "name a directory")
        keys = [(item.name, item.version) for item in (*self.named, *self._shelved())]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            name, version = twice[0]
            fix = f"give one of them another: {name}:2=PATH"
            raise InvalidError("PATH", f"{name} version {version} twice", fix)

    def versions(self) -> Sequence[tuple[str, str]]:
        """Return names and versions, each name's newest last."""
        items = (*self.named, *self._shelved())
        return sorted(
            ((i.name, i.version) for i in items), key=lambda key: (key[0], _order(key[1]))
        )

    def open(self, name: str, version: str) -> tuple[Path, Index]:
        """Return a bundle's directory and index, as this machine sees it.

        Raises UnknownModelError, InvalidError, IntegrityError, SpaceError or OSError.
        """
        for item in (*self.named, *self._shelved()):
            if (item.name, item.version) == (name, version):
                directory, index = self._open(item)
                seen = variants.seen_by(index, {"arch": os.uname().machine})
                self._opened[name, version] = (directory, seen)
                return directory, seen
        raise UnknownModelError(name, version, [f"{n} version {v}" for n, v in self.versions()])

    def opened(self, name: str, version: str) -> tuple[Path, Index] | None:
        """Return what `open` gave last; quick. None: it was never opened."""
        return self._opened.get((name, version))

    def graph(self, name: str, version: str) -> "Session | None":
        """Give away the graph that `open` had to load, of a version that is a graph alone."""
        return self._graphs.pop((name, version), None)

    def close(self) -> None:
        """Remove what was unpacked."""
        for directory in self._unpacked.values():
            directory.cleanup()
        self._unpacked.clear()

    def _open(self, item: Item) -> tuple[Path, Index]:
        path = _inner(item.path)
        if item.bundle is not None or path.suffix == ".tar":
            return self._unpack(path, item)
        if path.suffix == ".onnx":
            index, self._graphs[item.name, item.version] = _of_graph(path, item.name)
            return path.parent, index
        if (path / INDEX_NAME).is_file():
            return path, bundle_index.decode((path / INDEX_NAME).read_bytes())
        return path, _built(path)

    def _unpack(self, path: Path, item: Item) -> tuple[Path, Index]:
        """Return a version of a file, unpacked until `close`."""
        with path.open("rb") as stream:
            archive = Archive(stream)
            bundle = item.bundle or _only(archive, path)
            index, data = archive.indexes[bundle]
            if bundle not in self._unpacked:
                self._unpacked[bundle] = tempfile.TemporaryDirectory(prefix="packhorse-")
            place = Path(self._unpacked[bundle].name)
            blobs = BlobStore(place / "blobs")
            for digest in archive.needs(bundle):
                if not blobs.has(digest):
                    with archive.open(digest) as blob:
                        blobs.put_stream(digest, blob, limit_bytes=archive.size(digest))
        materialise(index, data, blobs, place / "bundle")
        return place / "bundle", index

    def _shelved(self) -> Iterator[Item]:
        if self._repository is None:
            return
        for model in sorted(self._repository.iterdir()):
            if model.is_dir() and not model.name.startswith("."):
                for version in sorted(model.iterdir()):
                    if version.is_dir() and not version.name.startswith("."):
                        yield Item(model.name, version.name, version)


def _items(text: str) -> list[Item]:
    """Return what was named on the command line."""
    called = None if Path(text).exists() else _CALLED.match(text)
    path = Path(called[3] if called else text)
    if not path.exists():
        fix = "name a bundle's directory, a .tar or a .onnx file, or NAME:VERSION=PATH of one"
        raise InvalidError("PATH", str(path), f"it does not exist: {fix}")
    found = _told(_inner(path))
    if called is None:
        return found
    if len(found) > 1:
        raise InvalidError("PATH", text, f"it holds {len(found)} versions: name it without NAME=")
    return [found[0]._replace(name=called[1], version=called[2] or found[0].version)]


def _told(path: Path) -> list[Item]:
    """Return what lies at a path, called as it calls itself."""
    if path.suffix == ".tar":
        with path.open("rb") as stream:
            entries = [each for each in Archive(stream).manifest.versions if each.asked]
        return [Item(each.model, str(each.version), path, each.bundle) for each in entries]
    if path.suffix == ".onnx":
        return [Item(_name_of(path), FIRST_VERSION, path)]
    if (path / INDEX_NAME).is_file():
        index = bundle_index.decode((path / INDEX_NAME).read_bytes())
        return [Item(index.name, FIRST_VERSION, path)]
    return [Item(_built(path).name, FIRST_VERSION, path)]


def _inner(path: Path) -> Path:
    """Return what a path means: itself, or the one model file in a directory without a bundle."""
    if path.is_file() and path.suffix in {".onnx", ".tar"}:
        return path
    if not path.is_dir():
        raise InvalidError("PATH", str(path), "name a directory, a .tar or a .onnx file")
    if (path / INDEX_NAME).is_file() or (path / SOURCE_NAME).is_file():
        return path
    models = sorted(p for p in path.iterdir() if p.suffix in {".onnx", ".tar"} and p.is_file())
    if len(models) != 1:
        found = f"has {len(models)} model files" if models else "has none of these"
        fix = f"it {found}: put a {SOURCE_NAME}, a .tar or one .onnx there"
        raise InvalidError("PATH", str(path), fix)
    return models[0]


def _built(directory: Path) -> Index:
    # Lazily: bundle.yaml takes a YAML parser, which a device does not have.
    try:
        from runtime.bundle import build  # noqa: PLC0415
    except ModuleNotFoundError as error:
        fix = f"{error.name} is not installed: pip install 'packhorse[serve]'"
        raise InvalidError(SOURCE_NAME, str(directory), fix) from error
    return build.build(directory).index


def _of_graph(path: Path, name: str) -> "tuple[Index, Session]":
    """Return the index of a graph that lies there alone, and the graph."""
    from runtime.bundle import onnxfile  # noqa: PLC0415 - as below
    from runtime.inference.session import Session  # noqa: PLC0415 - onnxruntime takes a while

    graph = Session(path)
    files = []
    for each in (path.name, *onnxfile.external_data(path, path.name)):
        place = path.parent / each
        with place.open("rb") as stream:
            digest = digests.of_stream(stream)
        files.append(FileEntry(path=each, size=place.stat().st_size, sha256=digest))
    index = Index(
        format=FORMAT,
        name=name,
        kind="onnx",
        model=path.name,
        files=tuple(files),
        signature=graph.signature,
    )
    return index, graph


def _name_of(path: Path) -> str:
    name = _NOT_IN_A_NAME.sub("-", path.stem.lower()).strip("-")
    return names.require(name[:63], f"name of {path.name}")


def _only(archive: Archive, path: Path) -> Digest:
    asked = [entry.bundle for entry in archive.manifest.versions if entry.asked]
    if len(asked) != 1:
        fix = "in a repository a file holds one version: export each by itself"
        raise InvalidError(str(path), f"{len(asked)} versions", fix)
    return asked[0]


def _order(version: str) -> list[tuple[int, str]]:
    """Return what sorts versions as people do: 2 before 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in _PARTS.split(version)]
