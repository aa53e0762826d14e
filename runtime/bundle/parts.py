"""The part table: how an encoded blob is cut, and the digest of each piece.

A part is what is fetched, checked and counted on its own, whatever road it came by. The table's own
SHA-256 stands in the offer, so a device trusts no byte that the registry did not name. Specified in
docs/specs/bundle.md.
"""

import hashlib
from typing import BinaryIO

import msgspec

from runtime import digests, messages
from runtime.digests import Digest
from runtime.errors import InvalidError

FORMAT = 1
PART_BYTES = 1 << 20
MAX_PART_BYTES = 4 << 20
"""A receiver holds one part in memory."""
MAX_PARTS = 65_536
MAX_TABLE_BYTES = 8 << 20


class PartTable(msgspec.Struct, frozen=True):
    """One encoding of one blob, cut into parts of equal size (the last may be shorter)."""

    format: int
    blob: Digest
    """What the parts decode to."""
    size: int
    """Bytes of the blob."""
    encoding: str
    encoded_size: int
    """Bytes of all parts together."""
    part_size: int
    parts: tuple[Digest, ...]

    def span(self, part: int) -> tuple[int, int]:
        """Return where a part starts and stops in the encoded bytes."""
        start = part * self.part_size
        return start, min(start + self.part_size, self.encoded_size)


def cut(
    blob: Digest, size: int, encoding: str, encoded: BinaryIO, *, part_size: int = PART_BYTES
) -> PartTable:
    """Return the table of what is left in a stream, read part by part."""
    parts, encoded_size = [], 0
    while part := encoded.read(part_size):
        parts.append(Digest(hashlib.sha256(part).hexdigest()))
        encoded_size += len(part)
    table = PartTable(FORMAT, blob, size, encoding, encoded_size, part_size, tuple(parts))
    validate(table)
    return table


def encode(table: PartTable) -> bytes:
    """Return the bytes that the table's digest names."""
    return messages.canonical_json(table)


def decode(data: bytes) -> PartTable:
    """Return a valid table; raise InvalidError naming the field that is wrong."""
    if len(data) > MAX_TABLE_BYTES:
        raise InvalidError("table", f"{len(data)} bytes", f"a table has at most {MAX_TABLE_BYTES}")
    try:
        table = msgspec.json.decode(data, type=PartTable)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError("table", data[:80], str(error)) from error
    validate(table)
    return table


def validate(table: PartTable) -> None:
    """Raise InvalidError unless the numbers fit together and each part has a digest."""
    if table.format > FORMAT:
        raise InvalidError(
            "table.format", table.format, f"this Packhorse reads up to {FORMAT}: upgrade it"
        )
    if not 0 < table.part_size <= MAX_PART_BYTES:
        raise InvalidError("table.part_size", table.part_size, f"give 1 to {MAX_PART_BYTES}")
    if table.size < 0 or table.encoded_size < 0:
        raise InvalidError("table.size", (table.size, table.encoded_size), "give bytes, 0 or more")
    if len(table.parts) > MAX_PARTS:
        raise InvalidError("table.parts", len(table.parts), f"a blob has at most {MAX_PARTS} parts")
    if len(table.parts) != -(-table.encoded_size // table.part_size):
        raise InvalidError(
            "table.parts",
            len(table.parts),
            f"{table.encoded_size} bytes in parts of {table.part_size} make another number",
        )
    digests.parse(table.blob, "table.blob")
    for part in table.parts:
        digests.parse(part, "table.parts")
