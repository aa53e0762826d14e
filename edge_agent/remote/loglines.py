"""Lines of logs: when and how bad each is, and which of them somebody wants. Nothing here reads.

    2026-03-01T12:00:00.123Z WARNING edge_agent.agent: message ignored about=desired

A line without such a head (a traceback, what a model's own code prints) belongs to the one before.
"""

import calendar
import logging
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass

from edge_agent.remote.ring import Line

_HEAD = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?Z ([A-Z]+) ")
_NUMBERS = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "CRITICAL": logging.CRITICAL,
}
UNKNOWN = logging.INFO
"""How bad a line is that does not say so, with none before it."""


@dataclass(frozen=True)
class Wanted:
    """Which lines."""

    since: float | None
    """Not older, by the device's clock; lines of no known time count as new."""
    level: int
    lines: int
    max_bytes: int


@dataclass(frozen=True)
class Chosen:
    """Lines to send, oldest first, and how many older ones had no room."""

    texts: tuple[str, ...]
    left_out: int

    def encoded(self) -> bytes:
        """Return the lines as bytes."""
        return "".join(f"{text}\n" for text in self.texts).encode("utf-8", "replace")


def level_number(name: str) -> int:
    """Return the number of a level's name."""
    return _NUMBERS[name.upper()]


def parse(texts: Iterable[str]) -> list[Line]:
    """Return lines with what their heads say; one without takes the head of the one before."""
    found: list[Line] = []
    at, level = None, UNKNOWN
    for text in texts:
        head = _HEAD.match(text)
        if head is not None and head[3] in _NUMBERS:
            at, level = _seconds(head[1], head[2]), _NUMBERS[head[3]]
        found.append(Line(text, at, level))
    return found


def _seconds(moment: str, fraction: str | None) -> float | None:
    try:
        whole = calendar.timegm(time.strptime(moment, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None
    return whole + float(f"0.{fraction or 0}")


def choose(lines: Iterable[Line], wanted: Wanted) -> Chosen:
    """Return the newest lines that are wanted and have room."""
    fitting = [line for line in lines if _fits(line, wanted)]
    kept: list[str] = []
    room = wanted.max_bytes
    for line in reversed(fitting[-wanted.lines :]):
        size = len(line.text.encode("utf-8", "replace")) + 1
        if size > room:
            break
        room -= size
        kept.append(line.text)
    return Chosen(tuple(reversed(kept)), len(fitting) - len(kept))


def _fits(line: Line, wanted: Wanted) -> bool:
    if line.level < wanted.level:
        return False
    return wanted.since is None or line.at is None or line.at >= wanted.since
