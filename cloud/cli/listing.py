"""Tables of models and versions."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import output

if TYPE_CHECKING:
    from cloud import shapes

QueryArgument = Annotated[
    str,
    typer.Argument(
        metavar="QUERY",
        help="Conditions on name, version, kind, alias, text, tag.KEY, metadata.KEY, input.NAME,"
        " output.NAME, lineage.KEY..., with AND, OR, NOT and parentheses.",
    ),
]
Sort = Annotated[
    str | None,
    typer.Option(help="name, version, created_at, updated_at or size_bytes; - before it: down."),
]


def show_models(found: "Sequence[shapes.Model]", *, none: str) -> None:
    """Print models, each with its newest version."""
    rows = []
    for each in found:
        latest = each.latest
        about = each.description or (latest.description if latest is not None else "")
        aliases = ", ".join(f"{name}={number}" for name, number in sorted(each.aliases.items()))
        own = ("none", "", "") if latest is None else _newest(latest)
        rows.append((each.name, *own, aliases, about))
    output.show(
        ("model", "newest", "size", "registered", "aliases", "description"), rows, none=none
    )


def _newest(latest: "shapes.Version") -> tuple[str, str, str]:
    return str(latest.version), output.size(latest.size_bytes), output.moment(latest.created_at)


def show_versions(found: "Sequence[shapes.Version]", *, none: str) -> None:
    """Print versions."""
    rows = [
        (
            f"{each.model}:{each.version}",
            each.bundle[:12],
            output.moment(each.created_at),
            each.created_by,
            ", ".join(each.aliases),
            output.labels(each.tags),
            each.description,
        )
        for each in found
    ]
    columns = ("version", "bundle", "registered", "by", "aliases", "tags", "description")
    output.show(columns, rows, none=none)


def said(version: "shapes.Version") -> list[tuple[str, str]]:
    """Return what was said of a version, as names and values."""
    name = f"{version.model}:{version.version}"
    facts = [
        ("aliases", ", ".join(version.aliases) or "none"),
        ("tags", output.labels(version.tags) or "none"),
        ("metadata", output.labels(version.metadata) or "none"),
        ("card", f"packhorse models card {name}" if version.card else "none"),
        ("description", version.description or "none"),
    ]
    return [(key, output.plain(value)) for key, value in facts]
