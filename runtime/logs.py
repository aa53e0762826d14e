"""How every process of ours logs: one line per event, to stderr, a fixed phrase and its facts.

plain   2026-03-01T12:00:00Z INFO edge_agent.agent: worker started module_name=digits slot=3
json    {"at": …, "level": "info", "logger": "edge_agent.agent", "event": "worker started", …}
"""

import json
import logging
import sys
import time
from typing import Literal, TextIO

Format = Literal["plain", "json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def set_up(*, form: Format = "plain", level: str = "info", stream: TextIO | None = None) -> None:
    """Send all log lines of this process to `stream` (stderr), in place of any set-up before."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else PlainLines())
    root = logging.getLogger()
    for old in list(root.handlers):
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; what is no JSON is written as its text."""
        line: dict[str, object] = {
            "at": _iso(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **facts(record),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class PlainLines(logging.Formatter):
    """One line for people; a traceback follows below."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. Line breaks in facts are shown as such, so none can forge a line."""
        told = "".join(f" {name}={_shown(value)}" for name, value in facts(record).items())
        head = f"{_iso(record.created)} {record.levelname} {record.name}: {record.getMessage()}"
        line = head.replace("\n", "\\n") + told
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def facts(record: logging.LogRecord) -> dict[str, object]:
    """Return what was given as `extra`."""
    return {name: value for name, value in vars(record).items() if name not in _STANDARD}


def _shown(value: object) -> str:
    text = str(value)
    return repr(text) if not text or any(char.isspace() for char in text) else text


def _iso(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
