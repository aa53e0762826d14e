"""Versions that differ by a little of one large file, and devices that say which one they run."""

import random
from pathlib import Path

from cloud import tables
from cloud.services import Services
from runtime.bundle import index
from runtime.digests import Digest
from tests.support import bundles, registry_rows

NAME = "table.bin"
"""The large file."""
_SHARED = random.Random(1).randbytes(100_000)


def content(number: int) -> bytes:
    """Return the large file of a version: 2 % of it are the version's own."""
    return _SHARED[:50_000] + random.Random(number).randbytes(2000) + _SHARED[52_000:]


def push(services: Services, directory: Path, data: bytes) -> tables.Version:
    """Register the next version of the model "scale", with this as its large file."""
    directory.mkdir()
    bundles.write(directory)
    (directory / NAME).write_bytes(data)
    return registry_rows.push(services, directory)


def blob(services: Services, version: tables.Version) -> Digest:
    """Return the blob of a version's large file."""
    listing = b"".join(services.blobs.read(Digest(version.bundle)))
    (found,) = [entry.sha256 for entry in index.decode(listing).files if entry.path == NAME]
    return found


def report(services: Services, device: str, version: tables.Version) -> None:
    """Have a device as if it had reported that it runs a version."""
    running = {"bundle": version.bundle, "model": version.model, "version": version.number}
    with services.transaction() as session:
        row = session.get(tables.Device, device)
        assert row is not None
        row.reported = {"modules": [{"name": version.model, "running": running}]}
        session.add(row)
