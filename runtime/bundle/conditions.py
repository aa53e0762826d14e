"""A condition of a variant on one fact of a device: a value, or a comparison with one. Pure.

aarch64, =aarch64, !=aarch64         the same text or not, whatever its case
>=4096, >4096, <=6.1, <6.1           numbers and dotted versions, part by part
"""

import re

from runtime.errors import InvalidError

_CONDITION = re.compile(r"(>=|<=|!=|>|<|=)?\s*([^<>!=\s].*)", re.DOTALL)
_VERSION = re.compile(r"\d{1,18}(\.\d{1,18})*")


def require(text: str, field: str) -> str:
    """Return a condition as it is written; raise InvalidError if it compares with nothing."""
    match = _CONDITION.fullmatch(text.strip())
    if match is None:
        raise InvalidError(field, text, "write a value, or a comparison such as >=4096")
    if match[1] in {">", ">=", "<", "<="} and not _VERSION.fullmatch(match[2].strip()):
        raise InvalidError(field, text, "compare with a number or a version, such as >=6.1")
    return text.strip()


def holds(condition: str, values: tuple[str, ...]) -> bool:
    """Say whether a condition that `require` passed holds for what a device has, in lower case."""
    match = _CONDITION.fullmatch(condition.strip())
    assert match is not None, "checked when the index was read"
    operator, wanted = match[1] or "=", match[2].strip().lower()
    if operator == "=":
        return wanted in values
    if operator == "!=":
        return wanted not in values
    return any(_compares(operator, value, wanted) for value in values)


def _compares(operator: str, value: str, wanted: str) -> bool:
    if not _VERSION.fullmatch(value) or not _VERSION.fullmatch(wanted):
        return False
    here, there = _parts(value), _parts(wanted)
    length = max(len(here), len(there))
    here += [0] * (length - len(here))
    there += [0] * (length - len(there))
    return {
        ">": here > there,
        ">=": here >= there,
        "<": here < there,
        "<=": here <= there,
    }[operator]


def _parts(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]
