"""What a bundle may call things: its models, steps and variants, and the paths of its files."""

import re

from runtime import files
from runtime.errors import InvalidError

MAX_PATH_BYTES = 1024
MAX_PART_BYTES = 255
"""What every file system takes as one part of a path."""
DEFAULT_VARIANT = "default"
"""What the top level is called where variants are named."""

_NAME = re.compile(r"[a-z0-9-]{1,63}")


def require(name: str, field: str) -> str:
    """Return a name; raise InvalidError unless it is 1 to 63 of a-z, 0-9 and '-'."""
    if not _NAME.fullmatch(name):
        raise InvalidError(field, name, "use 1 to 63 of a-z, 0-9 and '-'")
    return name


def require_variant(name: str, field: str) -> str:
    """Return a variant's name; raise InvalidError as `require` does, and for the top level's."""
    if name == DEFAULT_VARIANT:
        raise InvalidError(field, name, "the top level is called so: choose another name")
    return require(name, field)


def require_path(path: str, field: str) -> None:
    """Raise InvalidError unless this is a file's path in a bundle, that any file system takes."""
    parts = files.relative_path(path, field).parts
    if len(path.encode()) > MAX_PATH_BYTES or any(len(p.encode()) > MAX_PART_BYTES for p in parts):
        raise InvalidError(
            field, path, f"use at most {MAX_PATH_BYTES} bytes, {MAX_PART_BYTES} between two '/'"
        )
    if parts[0].startswith("."):
        raise InvalidError(field, path, "names that start with '.' are Packhorse's own")
