"""The `runtime` package as it goes into an image: its files, and enough of its metadata."""

import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import runtime
from cloud.images import layers
from cloud.images.layers import Entry

DISTRIBUTION = "packhorse"


def version() -> str:
    """Return the version of the code that goes into images."""
    return importlib.metadata.version(DISTRIBUTION)


def entries() -> Iterator[Entry]:
    """Yield the files of the package that runs here, and the metadata of its distribution.

    Taken from the package itself, not from the list of installed files: a development install has
    no such list.
    """
    directory = Path(runtime.__path__[0])
    for entry in layers.below("runtime", directory):
        if "/__pycache__/" not in entry.path and not entry.path.endswith(".pyc"):
            yield entry
    metadata = importlib.metadata.distribution(DISTRIBUTION).read_text("METADATA") or ""
    yield layers.of_bytes(f"{DISTRIBUTION}-{version()}.dist-info/METADATA", metadata.encode())


def requirements() -> tuple[str, ...]:
    """Return what the distribution and its extras ask for, with markers."""
    return tuple(importlib.metadata.requires(DISTRIBUTION) or ())


def held() -> tuple[str, ...]:
    """Return the versions that are installed here: those that this code is known to run with."""
    found = {
        f"{each.name}=={each.version}"
        for each in importlib.metadata.distributions()
        if each.name != DISTRIBUTION and "+" not in each.version
    }
    return tuple(sorted(found))
