"""Whether two revisions gave the same answer. Pure.

Numbers in JSON may differ by rounding; what names the request or the version may differ at will.
Tensors that follow the JSON as bytes (the binary tensor extension) must be the same bytes.
"""

import math
from dataclasses import dataclass
from typing import Any

import msgspec

RELATIVE = 1e-3
ABSOLUTE = 1e-6
_NOT_COMPARED = frozenset(("id", "model_version"))
_SHOWN = 80


@dataclass(frozen=True)
class Compared:
    """An answer, as far as it is compared."""

    status: int
    body: bytes
    json_bytes: int | None = None
    """Where the JSON ends and bytes begin (Inference-Header-Content-Length); None: all of it."""


def difference(given: Compared, other: Compared) -> str | None:
    """Say where two answers differ, in one line; None if they do not."""
    if given.status != other.status:
        return f"status: {given.status}, {other.status}"
    if given.body == other.body:
        return None
    ours, theirs = _split(given), _split(other)
    try:
        values = msgspec.json.decode(ours[0]), msgspec.json.decode(theirs[0])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _unequal("body", given.body, other.body)
    found = _differ("", *values)
    if found is None and ours[1] != theirs[1]:
        return _unequal("bytes", ours[1], theirs[1])
    return found


def _split(answer: Compared) -> tuple[bytes, bytes]:
    end = len(answer.body) if answer.json_bytes is None else answer.json_bytes
    return answer.body[:end], answer.body[end:]


def _differ(path: str, given: Any, other: Any) -> str | None:
    match given, other:
        case dict(), dict():
            return _differ_in_keys(path, given, other)
        case list(), list():
            if len(given) != len(other):
                return f"{path}: {len(given)} and {len(other)} values"
            for index, pair in enumerate(zip(given, other, strict=True)):
                found = _differ(f"{path}[{index}]", *pair)
                if found is not None:
                    return found
            return None
        case (bool(), _) | (_, bool()):
            same = given is other
        case (int() | float(), int() | float()):
            same = math.isclose(given, other, rel_tol=RELATIVE, abs_tol=ABSOLUTE)
        case _:
            same = given == other
    return None if same else _unequal(path, given, other)


def _differ_in_keys(path: str, given: dict[str, Any], other: dict[str, Any]) -> str | None:
    for key in sorted((given.keys() | other.keys()) - _NOT_COMPARED):
        if key not in given or key not in other:
            return f"{path}.{key}: only one has it"
        found = _differ(f"{path}.{key}", given[key], other[key])
        if found is not None:
            return found
    return None


def _unequal(path: str, given: object, other: object) -> str:
    return f"{path}: {_short(given)}, {_short(other)}"


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
