import io
from typing import Any

import msgspec
import pytest

from runtime import digests
from runtime.bundle import parts
from runtime.errors import InvalidError

BLOB = digests.of_bytes(b"blob")
TABLE = parts.cut(BLOB, 99, "zstd", io.BytesIO(b"abcdefgh"), part_size=3)


def test_the_last_part_is_what_is_left() -> None:
    assert [TABLE.span(number) for number in range(3)] == [(0, 3), (3, 6), (6, 8)]
    assert TABLE.parts == tuple(digests.of_bytes(piece) for piece in (b"abc", b"def", b"gh"))
    assert (TABLE.size, TABLE.encoded_size) == (99, 8)


def test_a_table_survives_the_journey() -> None:
    assert parts.decode(parts.encode(TABLE)) == TABLE


def test_unknown_fields_are_ignored() -> None:
    plain = msgspec.to_builtins(TABLE) | {"later": 1}

    assert parts.decode(msgspec.json.encode(plain)) == TABLE


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"format": 2}, "table.format"),
        ({"part_size": 0}, "table.part_size"),
        ({"part_size": parts.MAX_PART_BYTES + 1}, "table.part_size"),
        ({"size": -1}, "table.size"),
        ({"encoded_size": -1}, "table.size"),
        ({"encoded_size": 10}, "table.parts"),
        ({"encoded_size": 1 << 60}, "table.parts"),
        ({"parts": ["0" * 64] * 2 + ["x"]}, "table.parts"),
        ({"parts": ["0" * 64] * 4}, "table.parts"),
        ({"blob": "../x"}, "table.blob"),
        ({"encoding": 1}, "table"),
        ({"parts": [0] * 70_000, "encoded_size": 70_000, "part_size": 1}, "table"),
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(change: dict[str, Any], field: str) -> None:
    plain = msgspec.to_builtins(TABLE) | change

    with pytest.raises(InvalidError) as caught:
        parts.decode(msgspec.json.encode(plain))
    assert caught.value.field == field


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[]", b" " * (parts.MAX_TABLE_BYTES + 1)])
def test_what_is_no_table_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidError):
        parts.decode(data)
