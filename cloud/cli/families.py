"""`packhorse models lineage`: where a version comes from, and what came from it, as a tree."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import completing, login, output, words
from cloud.cli.output import JsonFlag

if TYPE_CHECKING:
    from rich.tree import Tree

    from cloud import shapes

SHORT_CHARS = 12


def lineage(
    model: Annotated[
        str, typer.Argument(metavar="NAME[:VERSION]", autocompletion=completing.models)
    ],
    *,
    json: JsonFlag = False,
) -> None:
    """Show ancestors and descendants of a version: training run, code, data, who and when."""
    name, version = words.reference(model)
    with login.client() as registry:
        found = registry.lineage(name, version)
    if json:
        output.as_json(found)
        return
    from rich.console import Console

    Console(width=None if sys.stdout.isatty() else 10_000, highlight=False).print(tree(found))
    output.facts([(name, output.plain(value)) for name, value in _facts(found)])
    if found.truncated:
        output.say("There are more relatives than are shown.")


def tree(family: "shapes.Family") -> "Tree":
    """Return the tree, oldest ancestor on top; a star marks the version asked for."""
    from rich.tree import Tree

    first = family.relatives[0]
    top = Tree(_label(first))
    above = [(first.depth, top)]
    for each in family.relatives[1:]:
        while above[-1][0] >= each.depth:
            above.pop()
        above.append((each.depth, above[-1][1].add(_label(each))))
    return top


def _label(node: "shapes.Relative") -> str:
    told = node.lineage
    parts = [f"{node.model}:{node.version}" + (" *" if node.depth == 0 else "")]
    if told is not None:
        parts += [f"run {told.run}"] if told.run else []
        parts += [f"code {told.code[:SHORT_CHARS]}"] if told.code else []
        parts += [f"by {told.trained_by}"] if told.trained_by else []
    if not node.present:
        parts.append("(deleted)")
    return output.escaped("  ".join(parts))


def _facts(family: "shapes.Family") -> list[tuple[str, str]]:
    told = family.lineage
    facts = [
        ("registered", f"{output.moment(family.registered_at)} by {family.registered_by}"),
    ]
    if told is None:
        return [*facts, ("lineage", "none: `packhorse models set NAME:VERSION --run ...`")]
    data = ", ".join(
        each["uri"] + (f" ({each['digest']})" if each.get("digest") else "") for each in told.data
    )
    return [
        *facts,
        ("run", told.run or "none"),
        ("code", told.code or "none"),
        ("data", data or "none"),
        ("parent", told.parent or "none"),
        ("trained", _trained(told)),
        *((key, value) for key, value in told.extra.items()),
        ("recorded", f"{output.moment(told.recorded_at)} by {told.recorded_by}"),
    ]


def _trained(told: "shapes.Origin") -> str:
    when = "" if told.trained_at is None else output.moment(told.trained_at)
    by = f"by {told.trained_by}" if told.trained_by else ""
    return " ".join(part for part in (when, by) if part) or "not told"
