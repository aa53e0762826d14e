"""W3C Trace Context: a request's place in its caller's trace, read, passed on, and written in logs.

    traceparent: 00-{trace: 32 hex}-{span of the caller: 16 hex}-{flags: 2 hex}

What is not valid is as good as absent: a broken header must not fail a request. Only the span
changes on the way; nothing is exported from here.
"""

import random
import re
from typing import NamedTuple

HEADER = "traceparent"
MAX_CHARS = 512
_SHAPE = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_NO_TRACE, _NO_SPAN, _FORBIDDEN, _FIRST = "0" * 32, "0" * 16, "ff", "00"
_rng = random.SystemRandom()


class Trace(NamedTuple):
    """A span within a trace."""

    trace: str
    span: str
    flags: str

    def child(self) -> "Trace":
        """Return a new span below this one."""
        return self._replace(span=f"{_rng.getrandbits(64) or 1:016x}")

    def __str__(self) -> str:
        """Return it as a traceparent header has it."""
        return f"00-{self.trace}-{self.span}-{self.flags}"

    def facts(self) -> dict[str, str]:
        """Return what a log line says of it, as `extra`."""
        return {"trace": self.trace, "span": self.span}


def parse(value: str | bytes | None) -> Trace | None:
    """Return what a traceparent header says; None if there is none or it is not valid."""
    if not value or len(value) > MAX_CHARS:
        return None
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    found = _SHAPE.fullmatch(text.strip())
    if found is None:
        return None
    version, trace, span, flags, rest = found.groups()
    if version == _FORBIDDEN or trace == _NO_TRACE or span == _NO_SPAN:
        return None
    if version == _FIRST and rest:
        return None  # only later versions may have more parts
    return Trace(trace, span, flags)
