"""Write docs/reference/settings.md from the settings classes: names, types, defaults, prose.

The prose is the text under each field, read from the source, so that there is one place for it.
With `--check`, write nothing and exit 1 if the page is not what would be written.
"""

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "reference" / "settings.md"
INTRODUCTION = """\
# Settings

Written by `make reference` from the code; a test fails if it is out of date.
"""


@dataclass(frozen=True)
class Field:
    """One setting."""

    name: str
    kind: str
    default: str
    prose: str


@dataclass(frozen=True)
class Place:
    """A class of settings and how an operator reaches them."""

    title: str
    path: str
    name: str
    how: str


PLACES = (
    Place(
        title="The registry",
        path="cloud/settings.py",
        name="Settings",
        how="Environment variables `PACKHORSE_<NAME>`; `packhorse serve --help` has the options.",
    ),
    Place(
        title="The agent",
        path="edge_agent/settings.py",
        name="AgentSettings",
        how=(
            "The file `agent.toml` in the agent's data directory, then environment variables"
            " `PACKHORSE_AGENT_<NAME>` on top, with values written as in TOML."
        ),
    ),
)


def settings(place: Place) -> Iterator[Field]:
    """Yield the fields of a settings class, each with the text under it."""
    module = ast.parse((ROOT / place.path).read_text("utf-8")).body
    aliases = {
        ast.unparse(node.targets[0]): _kind(node.value, {})
        for node in module
        if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Annotated[")
    }
    for node in module:
        if isinstance(node, ast.ClassDef) and node.name == place.name:
            yield from _fields(node, aliases)


def _fields(node: ast.ClassDef, aliases: dict[str, str]) -> Iterator[Field]:
    for statement, following in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(statement, ast.AnnAssign) or not isinstance(statement.target, ast.Name):
            continue
        prose = ""
        if isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant):
            prose = " ".join(str(following.value.value).split())
        yield Field(
            name=statement.target.id,
            kind=_kind(statement.annotation, aliases),
            default=_default(statement.value),
            prose=prose,
        )


def _kind(annotation: ast.expr, aliases: dict[str, str]) -> str:
    """Return a type as text, without the bounds that Annotated gives it."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        annotation = annotation.slice.elts[0]
    text = ast.unparse(annotation)
    for name, kind in aliases.items():
        text = re.sub(rf"\b{name}\b", kind, text)
    return text


def _default(value: ast.expr | None) -> str:
    if value is None:
        return "required"
    if isinstance(value, ast.Call):
        given = [word.value for word in value.keywords if word.arg == "default"]
        return ast.unparse(given[0]) if given else "its own defaults"
    return ast.unparse(value)


def page() -> str:
    """Return the whole page."""
    lines = [INTRODUCTION]
    for place in PLACES:
        lines += [f"## {place.title}", "", place.how, ""]
        lines += ["| name | type | default | meaning |", "|---|---|---|---|"]
        for field in settings(place):
            kind = field.kind.replace("|", "\\|")
            lines.append(f"| `{field.name}` | `{kind}` | `{field.default}` | {field.prose} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    """Write the page, or compare it."""
    text = page()
    if "--check" not in arguments:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text, "utf-8")
    elif not PAGE.is_file() or PAGE.read_text("utf-8") != text:
        raise SystemExit(f"{PAGE.relative_to(ROOT)} is out of date: run `make reference`")


if __name__ == "__main__":
    main(sys.argv[1:])
