"""Where the fields of a Protocol Buffers message lie in a file: the libraries give values alone.

Nothing is copied or trusted: a message that is cut short, nested too deep or of too many fields
raises OddError, and whoever asked takes the file for plain bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_FIELDS = 1_000_000
"""A graph of 10,000 nodes has some 300,000; a hostile file gets no more of our time than this."""
MAX_DEPTH = 32

_MAX_VARINT_BYTES = 10
_WIDTHS = {FIXED64: 8, FIXED32: 4}


class OddError(Exception):
    """These bytes are not the message that they were read as."""


@dataclass(frozen=True)
class Field:
    """A field: its number, how it is written, its value (VARINT) and where its bytes lie."""

    number: int
    kind: int
    value: int
    start: int
    end: int


@dataclass
class Walker:
    """Reads fields from a buffer and counts them."""

    data: memoryview
    fields_left: int = field(default=MAX_FIELDS)

    def fields(self, start: int, end: int, *, depth: int = 0) -> Iterator[Field]:
        """Yield the fields of the message in these bytes; raise OddError if it is none."""
        if depth > MAX_DEPTH:
            raise OddError("nested too deep")
        at = start
        while at < end:
            self.fields_left -= 1
            if self.fields_left < 0:
                raise OddError("too many fields")
            key, at = self.varint(at, end)
            found = self._field(key >> 3, key & 7, at, end)
            at = found.end
            yield found

    def text(self, place: Field) -> str:
        """Return the text of a LENGTH field; raise OddError if it is none."""
        try:
            return str(self.data[place.start : place.end], "utf-8")
        except UnicodeDecodeError as error:
            raise OddError("not UTF-8") from error

    def varint(self, at: int, end: int) -> tuple[int, int]:
        """Return the number at a place, and the place behind it."""
        value = 0
        for count in range(_MAX_VARINT_BYTES):
            if at + count >= end:
                break
            byte = self.data[at + count]
            value |= (byte & 127) << (7 * count)
            if byte < 128:  # noqa: PLR2004 - the last byte has no continuation bit
                return value, at + count + 1
        raise OddError("a number without end")

    def _field(self, number: int, kind: int, at: int, end: int) -> Field:
        if number == 0:
            raise OddError("field 0")
        if kind == VARINT:
            value, behind = self.varint(at, end)
            return Field(number, kind, value, at, behind)
        if kind == LENGTH:
            length, at = self.varint(at, end)
        elif kind in _WIDTHS:
            length = _WIDTHS[kind]
        else:
            raise OddError("a group, or no message at all")
        if at + length > end:
            raise OddError("cut short")
        return Field(number, kind, 0, at, at + length)
