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
from typing import NoReturn

from runtime.errors import InvalidError

MAX_SELECTOR_CHARS = 2048
MAX_VALUE_CHARS = 128
RESERVED_KEYS = ("all", "device")
"""No label may be called so: the one selects everything, the other is the device's id."""

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
_BARE = re.compile(r"[A-Za-z0-9._:/@+~-]+")
_TOKEN = re.compile(
    r"\s*(?:(?P<word>[A-Za-z0-9._:/@+~-]+)"
    r"|(?P<quoted>'[^']*'|\"[^\"]*\")"
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
                values = ", ".join(_quote(value) for value in sorted(self.values))
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
    if not _KEY.fullmatch(key) or key in RESERVED_KEYS:
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


def _quote(value: str) -> str:
    if _BARE.fullmatch(value):
        return value
    return f'"{value}"' if "'" in value else f"'{value}'"


@dataclass(frozen=True)
class _Token:
    kind: str
    """word, quoted, symbol or end."""
    text: str
    start: int


class _Parser:
    """Reads one selector from left to right."""

    def __init__(self, text: str) -> None:
        self._text, self._next = text, 0
        self._tokens = self._cut()

    def selector(self) -> Selector:
        requirements = [self._requirement()]
        while self._take_symbol(","):
            requirements.append(self._requirement())
        if self._peek().kind != "end":
            self._fail("a comma, or the end")
        return Selector(tuple(requirements))

    def _cut(self) -> list[_Token]:
        tokens, position = [], 0
        while found := _TOKEN.match(self._text, position):
            kind = found.lastgroup or ""
            tokens.append(_Token(kind, found[kind], found.start(kind)))
            position = found.end()
        rest = self._text[position:]
        if rest.strip():
            self._point(position + len(rest) - len(rest.lstrip()), "a key, a value or a comma")
        tokens.append(_Token("end", "", len(self._text.rstrip())))
        return tokens

    def _requirement(self) -> Requirement:
        if self._take_symbol("!"):
            return Requirement(self._key(), Operator.ABSENT)
        key = self._key()
        if self._take_symbol("==") or self._take_symbol("="):
            return Requirement(key, Operator.IN, frozenset({self._value()}))
        if self._take_symbol("!="):
            return Requirement(key, Operator.NOT_IN, frozenset({self._value()}))
        word = self._peek()
        if word.kind == "word":
            if word.text not in {"in", "notin"}:
                self._fail("=, !=, 'in' or 'notin'")
            self._next += 1
            return Requirement(key, Operator(word.text), self._values())
        return Requirement(key, Operator.EXISTS)

    def _values(self) -> frozenset[str]:
        if not self._take_symbol("("):
            self._fail("'('")
        values = {self._value()}
        while self._take_symbol(","):
            values.add(self._value())
        if not self._take_symbol(")"):
            self._fail("',' or ')'")
        return frozenset(values)

    def _key(self) -> str:
        token = self._peek()
        if token.text in {"all", "*"}:
            self._fail(f"a key: {token.text!r} stands alone")
        if token.kind != "word" or not _KEY.fullmatch(token.text):
            self._fail("a key")
        self._next += 1
        return token.text

    def _value(self) -> str:
        token = self._peek()
        if token.kind not in {"word", "quoted"}:
            self._fail("a value")
        self._next += 1
        return token.text if token.kind == "word" else token.text[1:-1]

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _take_symbol(self, symbol: str) -> bool:
        token = self._peek()
        if token.kind == "symbol" and token.text == symbol:
            self._next += 1
            return True
        return False

    def _fail(self, wanted: str) -> NoReturn:
        self._point(self._peek().start, wanted)

    def _point(self, position: int, wanted: str) -> NoReturn:
        shown = self._text.translate({9: " ", 10: " ", 13: " "})
        raise InvalidError(
            "selector",
            self._text[position : position + 20] or "the end",
            f"at character {position + 1} expected {wanted}\n  {shown}\n  {' ' * position}^",
        )
