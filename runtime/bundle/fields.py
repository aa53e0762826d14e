"""One mapping of a bundle.yaml: hands out its values by name and type, or says what is wrong."""

import difflib
from collections.abc import Mapping
from typing import Any, NoReturn

from runtime import files
from runtime.errors import InvalidError

MAX_NUMBER = 1e12
DOCUMENT = "bundle.yaml"
"""How an error names the document itself."""


class Fields:
    """A mapping and where it stands: `prefix` is "" at the top, else its path with a dot."""

    def __init__(self, value: object, prefix: str, known: tuple[str, ...] | None) -> None:
        field = prefix.rstrip(".") or DOCUMENT
        if not isinstance(value, dict):
            refuse(field, value, "keys with values")
        self._values: Mapping[Any, Any] = value
        self._prefix = prefix
        for key in value:
            if not isinstance(key, str):
                refuse(f"{prefix}{key}", key, "a key that is text: quote it")
            if known is not None and key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise InvalidError(
                    f"{prefix}{key}", key, f"{hint}the keys here are {', '.join(known)}"
                )

    def __contains__(self, key: str) -> bool:
        """Say whether a key is there."""
        return key in self._values

    def field(self, key: str) -> str:
        """Return how an error names one of the values."""
        return f"{self._prefix}{key}"

    def names(self) -> list[str]:
        """Return the keys, in order."""
        return list(self._values)

    def fields(self, key: str, known: tuple[str, ...] | None) -> "Fields":
        """Return a mapping; an empty one if the key is missing."""
        return Fields(self._values.get(key, {}), f"{self._prefix}{key}.", known)

    def each(self, key: str, known: tuple[str, ...]) -> list["Fields"]:
        """Return a list of mappings, at least one; raise InvalidError if the key is missing."""
        values = self._values.get(key)
        if not isinstance(values, list) or not values:
            refuse(f"{self._prefix}{key}", values, "a list")
        return [
            Fields(value, f"{self._prefix}{key}[{number}].", known)
            for number, value in enumerate(values)
        ]

    def integers(self, key: str) -> tuple[int, ...]:
        """Return a list of whole numbers; raise InvalidError if the key is missing."""
        values = self._values.get(key)
        if not isinstance(values, list):
            refuse(f"{self._prefix}{key}", values, "a list of whole numbers")
        for number, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int):
                refuse(f"{self._prefix}{key}[{number}]", value, "a whole number")
        return tuple(values)

    def text(self, key: str, *, required: bool = False) -> str:
        """Return text; "" if the key is missing."""
        if key not in self._values:
            if required:
                raise InvalidError(f"{self._prefix}{key}", None, f"write {key}: …")
            return ""
        value = self._values[key]
        if not isinstance(value, str) or not value.strip():
            refuse(f"{self._prefix}{key}", value, "text")
        return value

    def is_text(self, key: str) -> bool:
        """Say whether a value is text."""
        return isinstance(self._values.get(key), str)

    def flag(self, key: str) -> bool | None:
        """Return true or false; None if the key is missing."""
        value = self._values.get(key)
        if key in self._values and not isinstance(value, bool):
            refuse(f"{self._prefix}{key}", value, "true or false")
        return value

    def path(self, key: str, *, required: bool = False) -> str:
        """Return a relative path that stays in the bundle; "" if the key is missing."""
        text = self.text(key, required=required)
        return str(files.relative_path(text, f"{self._prefix}{key}")) if text else ""

    def texts(self, key: str) -> tuple[str, ...]:
        """Return a list of texts; an empty one if the key is missing."""
        values = self._values.get(key, [])
        if not isinstance(values, list):
            refuse(f"{self._prefix}{key}", values, "a list of text")
        for number, value in enumerate(values):
            if not isinstance(value, str) or not value.strip():
                refuse(f"{self._prefix}{key}[{number}]", value, "text")
        return tuple(values)

    def one_or_more(self, key: str) -> tuple[str, ...]:
        """Return a text, or a list of them, as a list; numbers are written out."""
        values = self._values.get(key)
        listed = values if isinstance(values, list) else [values]
        for value in listed:
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                refuse(f"{self._prefix}{key}", value, "text")
        if not listed:
            refuse(f"{self._prefix}{key}", values, "text, or a list of it")
        return tuple(str(value) for value in listed)

    def number(self, key: str, *, above: float, inclusive: bool = False) -> float | None:
        """Return a finite number above a bound; None if the key is missing."""
        if key not in self._values:
            return None
        value = self._values[key]
        field = f"{self._prefix}{key}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            refuse(field, value, "a number")
        if not abs(value) <= MAX_NUMBER:  # so written that nan is refused too
            raise InvalidError(field, value, f"give a number of at most {MAX_NUMBER:g}")
        if value < above or (value == above and not inclusive):
            bound = "at least" if inclusive else "more than"
            raise InvalidError(field, value, f"give a number of {bound} {above:g}")
        return value


def refuse(field: str, value: object, wanted: str) -> NoReturn:
    """Raise InvalidError saying what kind of value was wanted, and how to quote what is text."""
    kind = "nothing" if value is None else type(value).__name__
    quote = f": quote it, as in '{value}'" if isinstance(value, bool | int | float) else ""
    fix = f"give {wanted}, not {kind}{quote if wanted == 'text' else ''}"
    raise InvalidError(field, value, fix)
