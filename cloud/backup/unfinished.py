"""A mark in a data directory that is being restored: half a registry must not be served."""

from pathlib import Path

from cloud.errors import UnfinishedError
from runtime import files

_NAME = "restoring"


def begin(data: Path) -> None:
    """Leave the mark."""
    files.write_atomic(data / _NAME, b"")


def end(data: Path) -> None:
    """Remove the mark."""
    files.remove(data / _NAME)
    files.fsync_directory(data)


def is_marked(data: Path) -> bool:
    """Say whether restoring began and did not end."""
    return (data / _NAME).exists()


def require_none(data: Path) -> None:
    """Raise UnfinishedError if the directory holds half of a backup."""
    if is_marked(data):
        raise UnfinishedError(
            f"data: restoring into {data} was interrupted: run `packhorse restore` again"
        )
