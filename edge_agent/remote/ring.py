"""The newest lines that this process has logged, in memory: an idle agent writes nothing to disk.

What systemd's journal or a container engine keeps is the whole; this is what can be asked for from
afar, and it ends with the process.
"""

import logging
import secrets
from collections import deque
from typing import NamedTuple

from runtime.logs import PlainLines

MAX_LINES = 2000
MAX_BYTES = 256 * 1024
MAX_LINE_CHARS = 4096


class Line(NamedTuple):
    """One line, without its end."""

    text: str
    at: float | None
    """Seconds since 1970, by the device's clock; None: nobody said."""
    level: int


class Ring(logging.Handler):
    """Keeps lines from `attach` to `detach`; any thread may read."""

    def __init__(self, *, max_lines: int = MAX_LINES, max_bytes: int = MAX_BYTES) -> None:
        """Keep at most so much."""
        super().__init__()
        self.setFormatter(PlainLines())
        self._max_lines, self._max_bytes = max_lines, max_bytes
        self._lines: deque[Line] = deque()
        self._size = 0
        self._count = 0
        """How many lines there ever were: the number of the next one."""
        self._life = secrets.token_hex(4)
        """A cursor of another life of the agent means nothing here."""

    def attach(self) -> None:
        """Begin to keep what this process logs."""
        logging.getLogger().addHandler(self)

    def detach(self) -> None:
        """Keep no more."""
        logging.getLogger().removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record, and forget the oldest that have no room any more."""
        text = self.format(record)
        for line in text.split("\n"):  # a traceback has several
            self._keep(Line(line[:MAX_LINE_CHARS], record.created, record.levelno))

    def _keep(self, line: Line) -> None:
        self._lines.append(line)
        self._count += 1
        self._size += len(line.text)
        while len(self._lines) > self._max_lines or self._size > self._max_bytes:
            self._size -= len(self._lines.popleft().text)

    def read(self, after: str) -> tuple[list[Line], str]:
        """Return the lines behind a cursor, all if it is none of ours, and the next cursor."""
        self.acquire()
        try:
            lines, count = list(self._lines), self._count
        finally:
            self.release()
        life, _dash, number = after.partition("-")
        first = count - len(lines)
        begin = int(number) if life == self._life and number.isdecimal() else first
        return lines[max(0, begin - first) :], f"{self._life}-{count}"
