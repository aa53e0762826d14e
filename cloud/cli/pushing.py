"""A bundle from a directory into the registry: only what is new travels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cloud import shapes
from cloud.cli import progress
from cloud.client import Client
from cloud.errors import ClientError
from runtime.digests import Digest

if TYPE_CHECKING:
    from runtime.bundle.build import Built

_TRIES = 3


@dataclass(frozen=True)
class Pushed:
    """What a push did."""

    registered: shapes.Registered
    sent: int
    """Files; the others were there."""
    sent_bytes: int


def push(registry: Client, directory: Path) -> shapes.Registered:
    """Build a bundle and register it; return its version."""
    from runtime.bundle import build

    return send(registry, build.build(directory)).registered


def send(registry: Client, built: "Built", said: shapes.Statement | None = None) -> Pushed:
    """Upload what the registry lacks of a bundle and register it.

    Broken off at any point, the next try goes on from there.
    """
    sent: set[Digest] = set()
    for left in reversed(range(_TRIES)):
        sent |= upload(registry, built)
        try:
            registered = registry.register(built.index.name, built.index_bytes, said)
        except ClientError as error:
            # What was there is gone: collected, or lost with a disk. Send it after all.
            if left == 0 or "missing" not in error.problem:
                raise
        else:
            break
    sent_bytes = sum(built.files[digest].stat().st_size for digest in sent)
    return Pushed(registered, len(sent), sent_bytes)


def upload(registry: Client, built: "Built") -> set[Digest]:
    """Upload what the registry lacks; return the digests of that."""
    missing = {
        digest: path for digest, path in built.files.items() if not registry.has_blob(digest)
    }
    total = sum(path.stat().st_size for path in missing.values())
    with progress.transfer(f"pushing {built.index.name}", total) as advance:
        registry.put_blobs(missing, advance)
    return set(missing)
