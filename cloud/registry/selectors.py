"""Which devices are meant: `site=lab, arch in (x86_64, aarch64), !retired`. Pure.

    selector    = "all" | "*" | requirement { "," requirement }          a comma means AND
    requirement = key ( "=" | "==" | "!=" ) value
                | key ( "in" | "notin" ) "(" value { "," value } ")"
                | key | "!" key                                          is there, is not there
    key         = a letter or digit, then letters, digits, '.', '_', '/', '-'; at most 63
    value       = letters, digits and . _ : / @ + ~ -, or anything in '...' or "..."

White space between the words is free. `!=` and `notin` also match devices without the key.
"""

import enum
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from cloud.registry import syntax
from runtime.errors import InvalidError

MAX_SELECTOR_CHARS = 2048
MAX_VALUE_CHARS = 128
RESERVED_KEYS = ("all", "device")
"""No label may be called so: the one selects everything, the other is the device's id."""

_BARE = re.compile(r"[A-Za-z0-9._:/@+~-]+")
_TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z0-9._:/@+~-]+)"
    rf"|{syntax.QUOTED}"
    r"|(?P<symbol>==|!=|[=!(),*]))"
)


class Operator(enum.Enum):
    """How a requirement compares; the value is how it is written."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = ""
    ABSENT = "!"


@dataclass(frozen=True)
class Requirement:
    """One condition on one key."""

    key: str
    operator: Operator
    values: frozenset[str] = frozenset()

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Say whether attributes fulfil this."""
        match self.operator:
            case Operator.IN:
                return attributes.get(self.key) in self.values
            case Operator.NOT_IN:
                return attributes.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in attributes
            case Operator.ABSENT:
                return self.key not in attributes

    def __str__(self) -> str:
        """Write it so that `parse` reads the same."""
        match self.operator:
            case Operator.IN | Operator.NOT_IN:
                values = ", ".join(syntax.quote(value, _BARE) for value in sorted(self.values))
                return f"{self.key} {self.operator.value} ({values})"
            case _:
                return f"{self.operator.value}{self.key}"


@dataclass(frozen=True)
class Selector:
    """All requirements must hold; none means every device."""

    requirements: tuple[Requirement, ...]

    def matches(self, attributes: Mapping[str, str]) -> bool:
        """Say whether a device with these attributes is meant."""
        return all(requirement.matches(attributes) for requirement in self.requirements)

    def __str__(self) -> str:
        """Write it so that `parse` reads the same."""
        return ", ".join(str(requirement) for requirement in self.requirements) or "all"


@functools.lru_cache(maxsize=1024)
def parse(text: str) -> Selector:
    """Return the selector; raise InvalidError that points at what cannot be read."""
    if len(text) > MAX_SELECTOR_CHARS:
        raise InvalidError(
            "selector", f"{len(text)} characters", f"write at most {MAX_SELECTOR_CHARS}"
        )
    if not text.strip():
        raise InvalidError("selector", text, "write 'all' to mean every device")
    if text.strip() in {"all", "*"}:
        return Selector(())
    return _Parser(text).selector()


def check_key(key: str, field: str = "label") -> None:
    """Raise InvalidError unless a label may be called so."""
    if not syntax.KEY.fullmatch(key) or key in RESERVED_KEYS:
        raise InvalidError(
            field,
            key,
            "use a letter or digit, then up to 62 letters, digits, '.', '_', '/', '-'; "
            f"not {' or '.join(RESERVED_KEYS)}",
        )


def check_value(value: str, field: str = "label") -> None:
    """Raise InvalidError unless a selector can name this value."""
    quotable = "'" not in value or '"' not in value
    if len(value) > MAX_VALUE_CHARS or not value.isprintable() or not quotable:
        raise InvalidError(
            field,
            value,
            f"use at most {MAX_VALUE_CHARS} printable characters, not both kinds of quotes",
        )


class _Parser(syntax.Reader):
    """Reads one selector from left to right."""

    def __init__(self, text: str) -> None:
        super().__init__("selector", _TOKEN, text, "a key, a value or a comma")

    def selector(self) -> Selector:
        requirements = [self._requirement()]
        while self.take_symbol(","):
            requirements.append(self._requirement())
        if self.peek().kind != "end":
            self.fail("a comma, or the end")
        return Selector(tuple(requirements))

    def _requirement(self) -> Requirement:
        if self.take_symbol("!"):
            return Requirement(self._key(), Operator.ABSENT)
        key = self._key()
        if self.take_symbol("==", "="):
            return Requirement(key, Operator.IN, frozenset({self.value()}))
        if self.take_symbol("!="):
            return Requirement(key, Operator.NOT_IN, frozenset({self.value()}))
        if self.peek().kind == "word":
            if self.peek().text not in {"in", "notin"}:
                self.fail("=, !=, 'in' or 'notin'")
            return Requirement(key, Operator(self.take().text), self.listed())
        return Requirement(key, Operator.EXISTS)

    def _key(self) -> str:
        token = self.peek()
        if token.text in {"all", "*"}:
            self.fail(f"a key: {token.text!r} stands alone")
        if token.kind != "word" or not syntax.KEY.fullmatch(token.text):
            self.fail("a key")
        return self.take().text
