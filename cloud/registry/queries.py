"""What a query is, once read: which versions are meant. Pure; cloud.registry.query_reader reads.

docs/specs/registry.md tells what each field holds.
"""

import enum
import math
import re
import unicodedata
from dataclasses import dataclass

from cloud.registry import syntax

MAX_WORD_CHARS = 64

_BARE = re.compile(r"(?!(?:and|or|not|in|notin)$)[A-Za-z0-9._:/@+-]+", re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_WORD = re.compile(r"[^\W_]+")


class Kind(enum.Enum):
    """How the values of a field compare."""

    WORDS = "words"
    """Text; `<` and `>` compare what is a number."""
    NAME = "name"
    """Text that is never a number."""
    NUMBER = "number"
    TIME = "time"
    FLAG = "flag"
    TEXT = "text"


FIELDS = {
    "name": Kind.NAME,
    "version": Kind.NUMBER,
    "kind": Kind.NAME,
    "bundle": Kind.NAME,
    "alias": Kind.NAME,
    "input": Kind.NAME,
    "output": Kind.NAME,
    "uses": Kind.NAME,
    "created_at": Kind.TIME,
    "created_by": Kind.NAME,
    "updated_at": Kind.TIME,
    "size_bytes": Kind.NUMBER,
    "latest": Kind.FLAG,
    "text": Kind.TEXT,
}
FAMILIES = ("tag", "metadata", "input", "output", "lineage")
"""What has a key behind a dot; all are words."""


class Operator(enum.Enum):
    """How a condition compares; the value is how it is written."""

    IN = "in"
    CONTAINS = "~"
    EXISTS = ""
    BELOW = "<"
    AT_MOST = "<="
    ABOVE = ">"
    AT_LEAST = ">="


@dataclass(frozen=True)
class Condition:
    """One field compared."""

    field: str
    operator: Operator
    values: frozenset[str] = frozenset()
    """Of CONTAINS in small letters; of a time seconds since 1970."""

    def __str__(self) -> str:
        """Write it so that `parse` reads the same."""
        field = syntax.quote(self.field, _BARE)
        values = [syntax.quote(value, _BARE) for value in sorted(self.values)]
        match self.operator:
            case Operator.EXISTS:
                return field
            case Operator.IN:
                return f"{field} in ({', '.join(values)})"
            case _:
                return f"{field} {self.operator.value} {values[0]}"


@dataclass(frozen=True)
class Not:
    """The opposite."""

    part: "Query"

    def __str__(self) -> str:
        """Write it so that `parse` reads the same."""
        return f"NOT ({self.part})"


@dataclass(frozen=True)
class All:
    """Every part must hold; with none, everything is meant."""

    parts: tuple["Query", ...] = ()

    def __str__(self) -> str:
        """Write it so that `parse` reads the same."""
        return " AND ".join(f"({part})" for part in self.parts)


@dataclass(frozen=True)
class Any:
    """One part must hold."""

    parts: tuple["Query", ...]

    def __str__(self) -> str:
        """Write it so that `parse` reads the same."""
        return " OR ".join(f"({part})" for part in self.parts)


Query = Condition | Not | All | Any
EVERYTHING = All()


def number(text: str) -> float | None:
    """Return the number that a text is, or None."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def words(text: str) -> list[str]:
    """Return the words of a text, each once, in small letters, as `text ~` compares them."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return list(dict.fromkeys(word[:MAX_WORD_CHARS] for word in _WORD.findall(plain)))


def lower(text: str) -> str:
    """Return a text with A to Z in small letters: what every database means by that."""
    return "".join(char.lower() if char.isascii() else char for char in text)
