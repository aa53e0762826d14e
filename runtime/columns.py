"""Values of one kind side by side: how a batch's columns become bytes, without numpy.

A column is a msgpack array whose first element says how the rest is to be read:

    ["c", value]                  every value is this one
    ["i", low, width, planes]     integers: low plus an unsigned number of `width` bytes
    ["j", first, low, width, planes]
                                  integers: the one before, plus low, plus an unsigned number
    ["b", bytes]                  booleans, one byte each
    ["s", scale, integers]        floats that are an integer column divided by scale
    ["x", integers]               float64 as integers of the same bits
    ["f", 4 | 8, planes]          float32 or float64; float32 only where no bit is lost
    ["d", values, integers]       few different texts (or nulls): a dictionary and indices into it
    ["n", prefix, integers]       texts that are a prefix and a decimal number
    ["m", values]                 anything else, value by value

`planes` are the first bytes of all numbers, then the second bytes and so on (least significant
first), which is what zstd packs best. Decoding trusts nothing: a wrong column raises InvalidError,
and a `Budget` bounds what a small column may unfold to.
"""

import array
import itertools
import math
import sys
from collections.abc import Sequence
from typing import Any, cast

from runtime.errors import InvalidError

Column = list[Any]
"""As described above; msgpack can carry it."""

SCALES = (1, 1_000, 1_000_000)
"""What floats are tried to be an integer of: whole numbers, thousandths, millionths."""

_WIDTHS = {1: "B", 2: "H", 4: "I", 8: "Q"}
_FLOATS = {4: "f", 8: "d"}
_LOWEST, _HIGHEST = -(1 << 63), (1 << 64) - 1
_EXACT = 1 << 53
_TEXT = {str, type(None)}
_PLAIN = {str, int, float, bool, bytes, type(None)}


class Budget:
    """What decoding one batch may still unfold to; going over it raises InvalidError."""

    def __init__(self, *, cells: int, text: int) -> None:
        self._cells, self._text = cells, text

    def cells(self, count: int) -> None:
        """Take this many values."""
        self._cells -= count
        if self._cells < 0:
            raise InvalidError("batch", "too many values", "send fewer records in one batch")

    def text(self, characters: int) -> None:
        """Take this much text: few characters may stand in for many values."""
        self._text -= characters
        if self._text < 0:
            raise InvalidError("batch", "too much text", "send fewer records in one batch")


def encode(values: Sequence[Any]) -> Column:
    """Return the column of these values; exactly they come back, types and float bits included."""
    kinds = set(map(type, values))
    if kinds == {int} and min(values) >= _LOWEST and max(values) <= _HIGHEST:
        return _encode_integers(values)
    if kinds == {float}:
        return _encode_floats(values)
    if kinds == {bool}:
        same = all(values) or not any(values)
        return ["c", values[0]] if same else ["b", bytes(values)]
    if kinds and kinds <= _TEXT:
        return _encode_texts(values)
    return ["m", list(values)]


def decode(column: object, count: int, budget: Budget) -> list[Any]:
    """Return the `count` values of a column; raise InvalidError if it is none."""
    budget.cells(count)
    match column:
        case ["c", None | bool() | int() | float() | str() as value]:
            budget.text(len(value) * count if isinstance(value, str) else 0)
            return [value] * count
        case [("i" | "j"), *_]:
            return _decode_integers(column, count)
        case ["b", bytes(data)] if len(data) == count and set(data) <= {0, 1}:
            return list(map(bool, data))
        case [("s" | "x" | "f"), *_]:
            return _decode_floats(column, count)
        case [("d" | "n"), *_]:
            return _decode_texts(column, count, budget)
        case ["m", list(values)] if len(values) == count:
            for value in values:
                require_plain(value)
            return values
    raise wrong(column)


def require_plain(value: object) -> None:
    """Raise InvalidError unless a value is made of what msgpack and JSON share, and bytes."""
    kind = type(value)
    if kind in _PLAIN:
        return
    if kind is list:
        items = cast("list[object]", value)
        if not _PLAIN.issuperset(map(type, items)):
            for item in items:
                require_plain(item)
    elif kind is dict and set(map(type, cast("dict[object, object]", value))) <= {str}:
        for item in cast("dict[str, object]", value).values():
            require_plain(item)
    else:
        raise InvalidError(
            "value", kind.__name__, "use texts, numbers, booleans, null, lists and objects"
        )


def wrong(column: object) -> InvalidError:
    """Return the error for a column that is none; it shows the kind, for columns may be huge."""
    kind = column[0] if isinstance(column, list) and column else type(column).__name__
    shown = kind[:16] if isinstance(kind, str) else type(kind).__name__
    return InvalidError("column", shown, "see docs/specs/telemetry.md")


def _planes(data: bytes, width: int) -> bytes:
    return data if width == 1 else b"".join(data[plane::width] for plane in range(width))


def _numbers(code: str, planes: bytes) -> "array.array[Any]":
    """Return the numbers of these planes."""
    numbers = array.array(code)
    width = numbers.itemsize
    data = bytearray(planes)
    size = len(planes) // width
    for plane in range(width):
        data[plane::width] = planes[plane * size : (plane + 1) * size]
    numbers.frombytes(data)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def _little(numbers: "array.array[Any]") -> bytes:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()


def _width(span: int) -> int:
    """Return how many bytes hold 0 to span; 0 for none."""
    return next(width for width in (0, 1, 2, 4, 8) if span < 1 << 8 * width)


def _pack(numbers: Sequence[int], low: int, width: int) -> Column:
    if width == 0:
        return [low, 0, b""]
    packed = array.array(_WIDTHS[width], [number - low for number in numbers])
    return [low, width, _planes(_little(packed), width)]


def _encode_integers(values: Sequence[int]) -> Column:
    low = min(values)
    width = _width(max(values) - low)
    if width == 0:
        return ["c", low]
    steps = [after - before for before, after in itertools.pairwise(values)]
    step = min(steps)
    span = max(steps) - step
    if step >= _LOWEST and span <= _HIGHEST and _width(span) < width:
        return ["j", values[0], *_pack(steps, step, _width(span))]
    return ["i", *_pack(values, low, width)]


def _decode_integers(column: object, count: int) -> list[int]:
    match column:
        case ["c", int(value)]:
            return [value] * count
        case ["i", int(low), int(width), bytes(planes)]:
            values = [low + number for number in _unpack(column, width, planes, count)]
        case ["j", int(first), int(low), int(width), bytes(planes)] if count > 0:
            steps = [low + number for number in _unpack(column, width, planes, count - 1)]
            values = list(itertools.accumulate(steps, initial=first))
        case _:
            raise wrong(column)
    if values and (min(values) < _LOWEST or max(values) > _HIGHEST):
        raise wrong(column)
    return values


def _unpack(column: object, width: int, planes: bytes, count: int) -> Sequence[int]:
    if len(planes) != width * count or (width and width not in _WIDTHS):
        raise wrong(column)
    return _numbers(_WIDTHS[width], planes) if width else [0] * count


def _encode_floats(values: Sequence[float]) -> Column:
    doubles = array.array("d", values)
    bits = doubles.tobytes()
    if bits == bits[:8] * len(values):
        return ["c", values[0]]
    singles = array.array("f", doubles)
    width = 4 if array.array("d", singles).tobytes() == bits else 8
    for scale in SCALES:
        scaled = _scaled(values, scale)
        if scaled is not None and array.array("d", [n / scale for n in scaled]).tobytes() == bits:
            integers = _encode_integers(scaled)
            if _bytes_each(integers) <= width:
                return ["s", scale, integers]
    if width == 8:  # noqa: PLR2004 - the bytes of a float64
        integers = _encode_integers(array.array("Q", bits))
        if _bytes_each(integers) < width:
            return ["x", integers]
        return ["f", 8, _planes(_little(doubles), 8)]
    return ["f", 4, _planes(_little(singles), 4)]


def _scaled(values: Sequence[float], scale: int) -> list[int] | None:
    """Return the integers that these floats are when multiplied; None where one is not near."""
    integers = []
    for value in values:
        if not math.isfinite(value) or abs(value) * scale > _EXACT:
            return None
        near = round(value * scale)
        if near / scale != value:
            return None
        integers.append(near)
    return integers


def _bytes_each(integers: Column) -> int:
    return 0 if integers[0] == "c" else cast("int", integers[-2])


def _decode_floats(column: object, count: int) -> list[float]:
    match column:
        case ["s", int(scale), integers] if scale in SCALES:
            return [number / scale for number in _decode_integers(integers, count)]
        case ["x", integers]:
            numbers = _decode_integers(integers, count)
            if numbers and min(numbers) < 0:
                raise wrong(column)
            return list(array.array("d", array.array("Q", numbers).tobytes()))
        case ["f", int(width), bytes(planes)] if width in _FLOATS and len(planes) == width * count:
            return list(_numbers(_FLOATS[width], planes))
    raise wrong(column)


def _encode_texts(values: Sequence[str | None]) -> Column:
    different = {value: index for index, value in enumerate(dict.fromkeys(values))}
    if len(different) == 1:
        return ["c", values[0]]
    if len(different) <= len(values) // 2:
        return ["d", list(different), _encode_integers([different[value] for value in values])]
    return _encode_numbered(values) or ["m", list(values)]


def _encode_numbered(values: Sequence[str | None]) -> Column | None:
    """Return texts like "row-17" as prefix and numbers, if all are alike and nothing is lost."""
    first = values[0]
    if first is None:
        return None
    prefix = first.rstrip("0123456789")
    numbers = []
    for value in values:
        if value is None or not value.startswith(prefix):
            return None
        digits = value[len(prefix) :]
        if not digits.isdecimal() or not digits.isascii() or len(digits) > 18:  # noqa: PLR2004
            return None
        if digits != "0" and digits.startswith("0"):
            return None
        numbers.append(int(digits))
    return ["n", prefix, _encode_integers(numbers)]


def _decode_texts(column: object, count: int, budget: Budget) -> list[str | None]:
    match column:
        case ["d", list(entries), integers] if set(map(type, entries)) <= _TEXT:
            indices = _decode_integers(integers, count)
            if indices and not 0 <= min(indices) <= max(indices) < len(entries):
                raise wrong(column)
            sizes = [len(entry or "") for entry in entries]
            budget.text(sum(sizes[index] for index in indices))
            return [entries[index] for index in indices]
        case ["n", str(prefix), integers]:
            budget.text((len(prefix) + 20) * count)
            return [f"{prefix}{number}" for number in _decode_integers(integers, count)]
    raise wrong(column)
