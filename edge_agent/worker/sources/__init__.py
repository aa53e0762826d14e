"""Where inputs come from without a request: what a source is, and the kinds there are.

    directory:inbox?pattern=*.png   files put into a directory     sources/directory.py
    mqtt://localhost/sensors/#      messages of a local broker     sources/mqtt.py
    entry:source                    a generator of the bundle's    sources/entry.py

A source yields one item at a time; when it is resumed, that item is recorded. So what a source does
to an item (rename a file, acknowledge a message) stands behind its `yield`. Each item may carry a
position: from the last one recorded, the next worker's source goes on, after a crash too.
"""

import importlib
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import SplitResult, parse_qsl

from runtime.bundle.index import Signature
from runtime.errors import PackhorseError
from runtime.inference.entry import Entry


class SourceError(PackhorseError):
    """A source cannot be read as things are; it is tried again."""

    retryable = True


@dataclass(frozen=True)
class Item:
    """One input."""

    name: str
    """Which: a file and row, a topic, a count."""
    inputs: Mapping[str, Any] | None
    """Input name to array; None: it could not be read, and `error` says why."""
    position: str | None = None
    """Where to go on after this item; None: as before."""
    error: str = ""


@dataclass(frozen=True)
class Surroundings:
    """What a source has to do with."""

    module: str
    signature: Signature
    entry: Entry | None
    roots: tuple[Path, ...]
    """Directories below which it may read; the first is the inbox."""
    stopping: threading.Event
    """Set: yield no more."""
    tell: Callable[[str], None]
    """Say what is wrong, or with "" that all is well."""
    after_sync: Callable[[Callable[[], None]], None]
    """Have a function called once all items resumed from so far are durable."""


class Source(Protocol):
    """Something that gives inputs."""

    def items(self, position: str | None) -> Generator[Item, None, None]:
        """Yield items from behind `position` on (None: from the beginning) until `stopping`.

        Returns early if there will never be another; raises SourceError or OSError to be tried
        again later, from the last item recorded.
        """
        ...


KINDS: dict[str, str] = {
    "directory": "directory",
    "entry": "entry",
    "mqtt": "mqtt",
    "mqtts": "mqtt",
}
"""URI scheme to the module here that opens it; a module is imported when it is needed."""


def open_source(uri: str, surroundings: Surroundings) -> Source:
    """Return the source that a URI names; raise SourceError if it names none."""
    scheme = uri.partition(":")[0]
    if scheme not in KINDS:
        raise SourceError(f"{uri}: no kind of source: begin with one of {', '.join(KINDS)}")
    module = importlib.import_module(f"{__name__}.{KINDS[scheme]}")
    return cast("Source", module.open_source(uri, surroundings))


def options(uri: str, parts: SplitResult, known: tuple[str, ...]) -> dict[str, str]:
    """Return what stands behind the '?'; raise SourceError for what is not known."""
    given = dict(parse_qsl(parts.query, keep_blank_values=True))
    for name in given:
        if name not in known:
            raise SourceError(f"{uri}: unknown option {name}: use {', '.join(known) or 'none'}")
    return given
