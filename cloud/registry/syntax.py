"""What the registry's small languages share: words, quotes, lists, and errors that point. Pure.

Selectors (cloud.registry.selectors) say which devices are meant, queries (cloud.registry.queries)
which models. A language gives the pattern of its words and symbols; a Reader goes through them.

    list   = "(" value { "," value } ")"
    value  = letters, digits and . _ : / @ + -, or anything in '...' or "..."
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from runtime.errors import InvalidError

KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,62}")
QUOTED = r"(?P<quoted>'[^']*'|\"[^\"]*\")"
_SHOWN_CHARS = 20


@dataclass(frozen=True)
class Token:
    """One word of a text."""

    kind: str
    """The name of the pattern's group that it matches, or "end"."""
    text: str
    start: int


def cut(language: str, pattern: re.Pattern[str], text: str, wanted: str) -> Iterator[Token]:
    """Yield the tokens of a text, at last its end; raise InvalidError at what is none.

    `pattern` has one named group for each kind; `wanted` says what could stand there.
    """
    position = 0
    while found := pattern.match(text, position):
        kind = found.lastgroup or ""
        yield Token(kind, found[kind], found.start(kind))
        position = found.end()
    rest = text[position:]
    if rest.strip():
        refuse(language, text, position + len(rest) - len(rest.lstrip()), wanted)
    yield Token("end", "", len(text.rstrip()))


def refuse(language: str, text: str, position: int, wanted: str) -> NoReturn:
    """Raise an InvalidError that shows where in the text something else was expected."""
    shown = text.translate({9: " ", 10: " ", 13: " "})
    raise InvalidError(
        language,
        text[position : position + _SHOWN_CHARS] or "the end",
        f"at character {position + 1} expected {wanted}\n  {shown}\n  {' ' * position}^",
    )


def quote(value: str, bare: re.Pattern[str]) -> str:
    """Write a value so that it is read the same; plain if `bare` matches it whole."""
    if bare.fullmatch(value):
        return value
    return f'"{value}"' if "'" in value else f"'{value}'"


class Reader:
    """Goes through the tokens of one text from left to right."""

    values = frozenset({"word", "quoted"})
    """Kinds of tokens that are a value."""

    def __init__(self, language: str, pattern: re.Pattern[str], text: str, wanted: str) -> None:
        """As `cut`."""
        self._language, self._text, self._next = language, text, 0
        self._tokens = list(cut(language, pattern, text, wanted))

    def peek(self) -> Token:
        """Return what comes next."""
        return self._tokens[self._next]

    def take(self) -> Token:
        """Return what comes next, and go on."""
        self._next += 1
        return self._tokens[self._next - 1]

    def take_symbol(self, *symbols: str) -> str:
        """Go on and return it if one of these symbols comes next, or return ""."""
        token = self.peek()
        if token.kind == "symbol" and token.text in symbols:
            return self.take().text
        return ""

    def value(self) -> str:
        """Take one value."""
        token = self.peek()
        if token.kind not in self.values:
            self.fail("a value")
        self.take()
        return token.text[1:-1] if token.kind == "quoted" else token.text

    def listed(self) -> frozenset[str]:
        """Take values in parentheses."""
        if not self.take_symbol("("):
            self.fail("'('")
        found = {self.value()}
        while self.take_symbol(","):
            found.add(self.value())
        if not self.take_symbol(")"):
            self.fail("',' or ')'")
        return frozenset(found)

    def fail(self, wanted: str, at: Token | None = None) -> NoReturn:
        """Raise InvalidError: something else was expected here, or at a token."""
        refuse(self._language, self._text, (at or self.peek()).start, wanted)
