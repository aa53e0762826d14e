"""What must be true of a model before it is released. Pure.

    gate   = "check"                                  it has a check, and passes it
           | quantity operator number
           | quantity operator "@" alias [ number ]   against the version that the alias means
    quantity = "p95_ms" | "size_mb" | "metadata." KEY    measured here; what is said of it
    operator = ">=" | "<=" | ">" | "<" | "==" | "!="

`metadata.accuracy>=@champion-0.01`: at most one percent worse than the champion. While nothing has
that alias, or it says nothing of that quantity, there is nothing to be worse than: it passes.
"""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from runtime.errors import InvalidError

CHECK = "check"
_GATE = re.compile(
    r"(?P<quantity>p95_ms|size_mb|metadata\.[A-Za-z0-9_.-]+?)\s*(?P<operator>>=|<=|==|!=|>|<)\s*"
    r"(?:@(?P<alias>[a-z][a-z0-9-]*?)(?P<offset>[+-][0-9.]+(?:e-?[0-9]+)?)?"
    r"|(?P<number>-?[0-9.]+(?:e-?[0-9]+)?))"
)
_OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
_FIX = (
    "write check, p95_ms<=20, size_mb<=50, metadata.accuracy>=0.9 or"
    " metadata.accuracy>=@champion-0.01"
)


@dataclass(frozen=True)
class Gate:
    """One condition, as it was written."""

    text: str
    quantity: str
    """CHECK, "p95_ms", "size_mb" or "metadata.KEY"."""
    operator: str = ""
    number: float = 0.0
    """To compare with, or to add to what the alias has."""
    alias: str | None = None


@dataclass(frozen=True)
class Verdict:
    """How a gate was met."""

    gate: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Facts:
    """What is known of a version; of one that is not here, without `check` and `p95_ms`."""

    metadata: Mapping[str, str]
    size_bytes: int
    check: str | None = None
    """Why its check failed; "": it passed; None: it has none."""
    p95_ms: float | None = None


def parse(text: str) -> Gate:
    """Return a gate; raise InvalidError for what is none."""
    if text.strip() == CHECK:
        return Gate(CHECK, CHECK)
    found = _GATE.fullmatch(text.strip())
    if found is None:
        raise InvalidError("--gate", text, _FIX)
    number = _number(text, found["number"] or found["offset"] or "0")
    return Gate(text.strip(), found["quantity"], found["operator"], number, found["alias"])


def judge(gate: Gate, here: Facts, others: Mapping[str, Facts]) -> Verdict:
    """Return whether a version passes; `others` are what aliases mean, by alias."""
    if gate.quantity == CHECK:
        why = "it has no check" if here.check is None else here.check
        return Verdict(gate.text, not why, why or "passed")
    value = _quantity(here, gate.quantity)
    if value is None:
        return Verdict(gate.text, ok=False, text=_absent(gate.quantity))
    limit = gate.number
    if gate.alias is not None:
        other = others.get(gate.alias)
        theirs = None if other is None else _quantity(other, gate.quantity)
        if theirs is None:
            text = f"it is {value:g}, and @{gate.alias} has nothing to compare with"
            return Verdict(gate.text, ok=True, text=text)
        limit += theirs
    ok = _OPERATORS[gate.operator](value, limit)
    return Verdict(
        gate.text, ok, f"it is {value:g}, {'as' if ok else 'not'} {gate.operator} {limit:g}"
    )


def _quantity(facts: Facts, name: str) -> float | None:
    if name == "size_mb":
        return facts.size_bytes / 1e6
    if name == "p95_ms":
        return facts.p95_ms
    try:
        return float(facts.metadata[name.removeprefix("metadata.")])
    except (KeyError, ValueError):
        return None


def _absent(quantity: str) -> str:
    if quantity == "p95_ms":
        return "its check measures no latency: it has none, or it failed"
    key = quantity.removeprefix("metadata.")
    return f"no number is said of it: push it with --meta {key}=NUMBER"


def _number(text: str, number: str) -> float:
    try:
        return float(number)
    except ValueError as error:
        raise InvalidError("--gate", text, _FIX) from error
