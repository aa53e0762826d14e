"""Versions from a registry into one file (runtime.bundle.archive), and all that is said of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cloud import shapes
from cloud.cli import progress
from cloud.client import Client
from cloud.client.blobs import Wanted
from runtime import digests, files, tls
from runtime.bundle import archive, index
from runtime.bundle.archive import Blob, Entry, Manifest
from runtime.bundle.index import Index
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

_MODE = 0o644


@dataclass(frozen=True)
class Exported:
    """What a file holds, for a person."""

    versions: tuple[str, ...]
    size_bytes: int


@dataclass(frozen=True)
class _Found:
    """A version with its index."""

    version: shapes.Version
    index: Index
    index_bytes: bytes
    asked: bool


def export(registry: Client, references: Sequence[tuple[str, str]], target: Path) -> Exported:
    """Write these versions (name and version), and those that they are made of, to `target`.

    The same versions give the same bytes as long as nobody says something else of them. Broken off,
    a later try goes on with what had arrived. Raises InvalidError if the file cannot be written
    there, AbsentError for a version that does not exist.
    """
    if not target.parent.is_dir():
        raise InvalidError("output", str(target), "name a file in a directory that exists")
    found = _closure(registry, references)
    sizes: dict[Digest, int] = {}
    for each in found:
        sizes |= {entry.sha256: entry.size for entry in each.index.files}
        sizes[Digest(each.version.bundle)] = len(each.index_bytes)
    manifest = Manifest(
        format=archive.FORMAT,
        origin=tls.fingerprint(registry.ca()),
        versions=tuple(_entry(registry, each) for each in found),
        blobs=tuple(Blob(digest, sizes[digest]) for digest in sorted(sizes)),
    )
    gathered = target.with_name(f".{target.name}.partial")
    files.make_directory(gathered)
    _gather(registry, found, sizes, gathered)
    with (
        files.explaining_full_disk(target, archive.size_of(manifest)),
        files.replacing(target, mode=_MODE) as stream,
    ):
        archive.write(manifest, lambda digest: _read(gathered / digest), stream)
    files.remove(gathered)
    names = tuple(f"{entry.model}:{entry.version}" for entry in manifest.versions)
    return Exported(names, target.stat().st_size)


def _closure(registry: Client, references: Iterable[tuple[str, str]]) -> list[_Found]:
    """Return the versions asked for, each behind those that it is made of, each once."""
    found: dict[tuple[str, int], _Found] = {}

    def visit(name: str, version: str, *, asked: bool) -> None:
        shown = registry.version(name, version)
        key = (shown.model, shown.version)
        if key in found and not (asked and not found[key].asked):
            return
        data = registry.index(name, str(shown.version))
        if (got := digests.of_bytes(data)) != shown.bundle:
            raise IntegrityError(f"index of {name}", wanted=shown.bundle, got=got)
        decoded = index.decode(data)
        for use in decoded.uses:
            visit(use.model, str(use.version), asked=False)
        found[key] = _Found(shown, decoded, data, asked)

    for name, version in sorted(references):
        visit(name, version, asked=True)
    return list(found.values())


def _entry(registry: Client, found: _Found) -> Entry:
    version, number = found.version, str(found.version.version)
    origin = registry.lineage(version.model, number).lineage
    return Entry(
        model=version.model,
        version=version.version,
        bundle=Digest(version.bundle),
        created_at=version.created_at,
        created_by=version.created_by,
        description=version.description,
        tags=version.tags,
        metadata=version.metadata,
        card=registry.model_card(version.model, number) if version.card else "",
        lineage=None if origin is None else origin.model_dump(mode="json", exclude_none=True),
        asked=found.asked,
    )


def _gather(
    registry: Client, found: Iterable[_Found], sizes: dict[Digest, int], directory: Path
) -> None:
    for each in found:
        files.write_atomic(directory / each.version.bundle, each.index_bytes)
    # A partial download lies beside its file: what is there under its name is whole.
    missing = [digest for digest in sizes if not (directory / digest).exists()]
    wanted = [Wanted(digest, sizes[digest], directory / digest, _MODE) for digest in missing]
    with progress.transfer("exporting", sum(sizes[digest] for digest in missing)) as advance:
        registry.fetch_blobs(wanted, advance)


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from digests.chunks(file)
