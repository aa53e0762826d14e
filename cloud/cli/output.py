"""What commands print: results to stdout, as tables or as JSON; everything else to stderr."""

import datetime as dt
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import pydantic
    from rich.table import Table

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


def say(text: str) -> None:
    """Tell a person something that is not the result."""
    print(text, file=sys.stderr)


def result(text: str) -> None:
    """Print a line of the result."""
    print(text, flush=True)


def as_json(value: "pydantic.BaseModel | Sequence[pydantic.BaseModel]") -> None:
    """Print answers as JSON."""
    plain = (
        [each.model_dump(mode="json") for each in value]
        if isinstance(value, Sequence)
        else value.model_dump(mode="json")
    )
    result(json.dumps(plain, indent=2))


def json_line(value: "pydantic.BaseModel") -> None:
    """Print an answer as one line of JSON."""
    result(json.dumps(value.model_dump(mode="json"), separators=(",", ":")))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    """Return a plain table. A terminal wraps it; a file or pipe gets every character."""
    from rich import box
    from rich.table import Table

    made = Table(*columns, box=box.SIMPLE_HEAD, pad_edge=False, highlight=False)
    for row in rows:
        made.add_row(*(escaped(cell) for cell in row))
    return made


def show(columns: Sequence[str], rows: Sequence[Sequence[str]], *, none: str) -> None:
    """Print a table, or say `none` if it has no rows."""
    from rich.console import Console

    if not rows:
        say(none)
        return
    # A pipe has no width: rich would assume 80 columns and cut.
    Console(width=None if sys.stdout.isatty() else 10_000).print(table(columns, rows))


def markdown(text: str) -> None:
    """Print Markdown: laid out for a terminal, as it is for a file or pipe."""
    if not sys.stdout.isatty():
        result(text)
        return
    from rich.console import Console
    from rich.markdown import Markdown

    safe = "\n".join(plain(line) for line in text.splitlines())
    Console().print(Markdown(safe, hyperlinks=False))


def facts(pairs: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair on a line."""
    width = max(len(name) for name, _value in pairs) + 2
    for name, value in pairs:
        result(f"{name:<{width}}{value}")


def escaped(text: str) -> str:
    """Return text that neither rich nor a terminal takes for a command."""
    from rich.markup import escape

    return escape(plain(text))


def plain(text: str) -> str:
    """Return text that a terminal does not take for a command."""
    return "".join(char if char.isprintable() else "?" for char in text)


def moment(at: float | None) -> str:
    """Return a time as a person reads it."""
    if at is None:
        return "never"
    return dt.datetime.fromtimestamp(at, tz=dt.UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def size(count: float) -> str:
    """Return a number of bytes as a person reads it."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:  # noqa: PLR2004 - the step between the units
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def labels(pairs: dict[str, str]) -> str:
    """Return labels as a selector writes them."""
    return ", ".join(f"{key}={value}" for key, value in sorted(pairs.items()))
