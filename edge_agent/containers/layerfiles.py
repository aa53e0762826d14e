"""Layers on their way, each from its first byte to its last, across every cut.

    {data}/containers/layers/{bundle}/{sha256}

Bytes go into the file as they come, so that a killed process loses next to nothing. A layer counts
only once all of it has the digest that its manifest names.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from runtime import digests, files
from runtime.digests import Digest
from runtime.imageregistry.manifests import Described

SYNC_BYTES = 8 << 20
"""What a power cut may take."""
READ_BYTES = 1 << 20


class LayerFile:
    """One layer; for one thread. Close it."""

    def __init__(self, path: Path, layer: Described) -> None:
        """Go on with what is there."""
        self.path, self.layer = path, layer
        self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self.size = os.fstat(self._handle).st_size
        if self.size > layer.size:
            self.begin_anew()
        self._synced = self.size

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._handle)

    def write(self, data: bytes) -> None:
        """Add bytes; raise SpaceError if the disk is full."""
        rest = memoryview(data)
        with files.explaining_full_disk(self.path, self.layer.size - self.size):
            while rest:
                written = os.write(self._handle, rest)
                self.size, rest = self.size + written, rest[written:]
            if self.size - self._synced >= SYNC_BYTES:
                files.fsync_file(self._handle, self.path)
                self._synced = self.size

    def begin_anew(self) -> None:
        """Forget what has come."""
        os.ftruncate(self._handle, 0)
        self.size = self._synced = 0

    def is_right(self) -> bool:
        """Say whether all of it is here, and what its name says."""
        return self.size == self.layer.size and _digest(self.path) == self.layer.digest


class LayerFiles:
    """Those of all bundles."""

    def __init__(self, directory: Path) -> None:
        """Keep them below `directory`."""
        self.directory = directory

    def open(self, bundle: Digest, layer: Described) -> LayerFile:
        """Return the file of a layer that is to come for a bundle."""
        files.make_directory(self.directory / bundle)
        return LayerFile(self.path(bundle, layer), layer)

    def path(self, bundle: Digest, layer: Described) -> Path:
        """Return where a layer of a bundle is, or will be."""
        return self.directory / bundle / layer.digest.partition(":")[2]

    def came_bytes(self, bundle: Digest, layer: Described) -> int:
        """Return how many bytes of a layer are here, right or not yet known."""
        path = self.path(bundle, layer)
        return path.stat().st_size if path.exists() else 0

    def discard(self, bundle: Digest) -> None:
        """Remove all that came for a bundle."""
        files.remove(self.directory / bundle)


def chunks(path: Path) -> Iterator[bytes]:
    """Yield the bytes of a file."""
    with path.open("rb") as file:
        yield from digests.chunks(file)


def _digest(path: Path) -> str:
    sha256 = hashlib.sha256()
    for chunk in chunks(path):
        sha256.update(chunk)
    return f"sha256:{sha256.hexdigest()}"
