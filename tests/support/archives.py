"""Files of versions, as `packhorse models export` makes them, from bundles in directories."""

from collections.abc import Mapping
from pathlib import Path

from runtime import digests
from runtime.bundle import archive
from runtime.bundle.archive import Blob, Entry, Manifest
from runtime.bundle.build import build
from runtime.digests import Digest


def write(target: Path, *bundles: Path) -> Path:
    """Write one file with these bundles as versions 1, 2, 3... of their models."""
    blobs: dict[Digest, bytes] = {}
    entries = []
    for number, directory in enumerate(bundles, 1):
        built = build(directory)
        blobs |= {digest: path.read_bytes() for digest, path in built.files.items()}
        blobs[built.digest] = built.index_bytes
        entries.append(Entry(built.index.name, number, built.digest))
    manifest = Manifest(1, "0" * 64, tuple(entries), _listed(blobs))
    with target.open("wb") as stream:
        archive.write(manifest, lambda digest: [blobs[digest]], stream)
    return target


def _listed(blobs: Mapping[Digest, bytes]) -> tuple[Blob, ...]:
    return tuple(Blob(name, len(blobs[name])) for name in sorted(blobs))


def damaged(target: Path, source: Path, content: bytes) -> Path:
    """Write a copy of a file in which these bytes are others."""
    whole = source.read_bytes()
    assert content in whole, "there is something to damage"
    target.write_bytes(whole.replace(content, digests.of_bytes(content).encode()[: len(content)]))
    return target
