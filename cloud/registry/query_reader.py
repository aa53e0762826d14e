"""Queries as people write them: `tag.task = anomaly AND NOT (kind = onnx OR text ~ "old")`. Pure.

    query     = [ either ]                                            nothing means everything
    either    = both { "OR" both }
    both      = term { ( "AND" | "," ) term }
    term      = ( "NOT" | "!" ) term | "(" either ")" | condition
    condition = field ( "=" | "==" | "!=" | "~" | "!~" | "<" | "<=" | ">" | ">=" ) value
              | field ( "in" | "notin" | "not in" ) "(" value { "," value } ")"
              | field                                                 is there
    field     = name, version, kind, text... or tag.KEY, input.NAME...: see FIELDS and FAMILIES
    value     = letters, digits and . _ : / @ + -, FP32[-1,64], or anything in '...' or "..."

The words AND, OR, NOT, in are read in any case. As in device selectors, `!=` and `notin` are the
opposites of `=` and `in`: they also match what has no such field.
"""

import datetime as dt
import functools
import re

from cloud.registry import syntax
from cloud.registry.queries import (
    EVERYTHING,
    FAMILIES,
    FIELDS,
    All,
    Any,
    Condition,
    Kind,
    Not,
    Operator,
    Query,
    lower,
    number,
    words,
)
from runtime.errors import InvalidError

MAX_QUERY_CHARS = 2048
MAX_CONDITIONS = 64
MAX_DEPTH = 16

_TOKEN = re.compile(
    r"\s*(?:(?P<tensor>[A-Za-z0-9]*\[[-0-9,\s]*\])"
    r"|(?P<word>[A-Za-z0-9._:/@+-]+)"
    rf"|{syntax.QUOTED}"
    r"|(?P<symbol>==|!=|!~|<=|>=|[=!~<>(),]))"
)
_ORDERS = {each.value: each for each in Operator if each.value[:1] in {"<", ">"}}
_EQUALS, _PARTS, _ORDERED = ("=", "==", "!="), ("~", "!~"), ("<", "<=", ">", ">=")
_ALLOWED: dict[Kind, tuple[str, ...]] = {
    Kind.WORDS: (*_EQUALS, *_PARTS, *_ORDERED),
    Kind.NAME: (*_EQUALS, *_PARTS),
    Kind.NUMBER: (*_EQUALS, *_ORDERED),
    Kind.TIME: (*_EQUALS, *_ORDERED),
    Kind.FLAG: (),
    Kind.TEXT: _PARTS,
}


@functools.lru_cache(maxsize=256)
def parse(text: str) -> Query:
    """Return the query; raise InvalidError that points at what cannot be read."""
    if len(text) > MAX_QUERY_CHARS:
        raise InvalidError("query", f"{len(text)} characters", f"write at most {MAX_QUERY_CHARS}")
    if "\0" in text:
        raise InvalidError("query", text, "leave out characters that cannot be seen")
    return _Parser(text).query() if text.strip() else EVERYTHING


class _Parser(syntax.Reader):
    """Reads one query from left to right."""

    values = frozenset({"word", "quoted", "tensor"})

    def __init__(self, text: str) -> None:
        super().__init__("query", _TOKEN, text, "a field, a value or an operator")
        self._conditions = 0

    def query(self) -> Query:
        found = self._either(0)
        if self.peek().kind != "end":
            self.fail("AND, OR, or the end")
        return found

    def _either(self, depth: int) -> Query:
        parts = [self._both(depth)]
        while self._take_word("or"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _both(self, depth: int) -> Query:
        parts = [self._term(depth)]
        while self._take_word("and") or self.take_symbol(","):
            parts.append(self._term(depth))
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _term(self, depth: int) -> Query:
        if depth > MAX_DEPTH:
            self.fail(f"at most {MAX_DEPTH} levels of NOT and parentheses")
        if self.take_symbol("!") or self._take_word("not"):
            return Not(self._term(depth + 1))
        if self.take_symbol("("):
            found = self._either(depth + 1)
            if not self.take_symbol(")"):
                self.fail("AND, OR or ')'")
            return found
        self._conditions += 1
        if self._conditions > MAX_CONDITIONS:
            self.fail(f"at most {MAX_CONDITIONS} conditions")
        return self._condition()

    def _condition(self) -> Query:
        field, kind = self._field()
        operator = self._operator(kind)
        if operator == "":
            return Condition(field, Operator.EXISTS)
        opposite = operator in {"!=", "!~", "notin"}
        compared = {"==": "=", "!=": "=", "!~": "~", "notin": "in"}.get(operator, operator)
        found: Query
        if compared == "in":
            at = self.peek()
            values = (self._read(field, kind, value, at) for value in self.listed())
            found = Condition(field, Operator.IN, frozenset(values))
        elif compared == "=":
            found = Condition(field, Operator.IN, frozenset({self._one(field, kind)}))
        elif compared == "~":
            found = Condition(field, Operator.CONTAINS, frozenset({self._part(kind)}))
        else:
            value = self._one(field, Kind.NUMBER if kind is Kind.WORDS else kind)
            found = Condition(field, _ORDERS[compared], frozenset({value}))
        return Not(found) if opposite else found

    def _field(self) -> tuple[str, Kind]:
        token = self.peek()
        name = token.text[1:-1] if token.kind == "quoted" else token.text
        family, _dot, key = name.partition(".")
        if token.kind == "tensor" or not (name in FIELDS or (family in FAMILIES and key)):
            known = ", ".join([*FIELDS, *(f"{each}.KEY" for each in FAMILIES)])
            self.fail(f"one of the fields {known}")
        self.take()
        return name, FIELDS.get(name, Kind.WORDS)

    def _operator(self, kind: Kind) -> str:
        """Take an operator; "" stands for none, "is there"."""
        if found := self.take_symbol(*_ALLOWED[kind]):
            return found
        if kind not in {Kind.FLAG, Kind.TEXT}:
            if self._take_word("in"):
                return "in"
            if self._take_word("notin"):
                return "notin"
            if self._take_word("not"):
                return "notin" if self._take_word("in") else self.fail("'in'")
        compares = self.peek().kind == "symbol" and self.peek().text in _ALLOWED[Kind.WORDS]
        if compares or kind in {Kind.NUMBER, Kind.TIME, Kind.TEXT}:
            self.fail(" or ".join(_ALLOWED[kind]) or "nothing: it stands alone")
        return ""

    def _one(self, field: str, kind: Kind) -> str:
        token = self.peek()
        return self._read(field, kind, self.value(), token)

    def _part(self, kind: Kind) -> str:
        token = self.peek()
        value = self.value()
        if kind is not Kind.TEXT:
            return lower(value)
        if not words(value):
            self.fail("a word, of letters or digits", token)
        return " ".join(words(value))

    def _read(self, field: str, kind: Kind, value: str, at: syntax.Token) -> str:
        if kind is Kind.NUMBER and number(value) is None:
            self.fail("a number", at)
        if kind is Kind.TIME:
            seconds = _time(value)
            if seconds is None:
                self.fail("a time: 2026-05-01, 2026-05-01T12:00Z or seconds since 1970", at)
            return repr(seconds)
        if field.partition(".")[0] in {"input", "output"}:
            return "".join(value.split())
        return value

    def _take_word(self, word: str) -> bool:
        token = self.peek()
        if token.kind == "word" and token.text.lower() == word:
            self.take()
            return True
        return False


def _time(text: str) -> float | None:
    """Return seconds since 1970; UTC where the text names no zone."""
    seconds = number(text)
    if seconds is not None:
        return seconds
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)).timestamp()
