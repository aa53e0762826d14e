"""What a person says of a model or version: the options of `push`, and `models set` itself."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cloud.cli import completing, login, output, words
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError

if TYPE_CHECKING:
    from cloud import shapes

Description = Annotated[str | None, typer.Option(help="What it is, in a sentence.")]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Repeat it.")]
Meta = Annotated[list[str] | None, typer.Option("--meta", metavar="KEY=VALUE", help="Metadata.")]
Card = Annotated[Path | None, typer.Option(help="File with the model card, in Markdown.")]
Aliases = Annotated[
    list[str] | None, typer.Option("--alias", metavar="ALIAS", help="Have this name mean it.")
]
Run = Annotated[str | None, typer.Option(help="Training run: id or URI.")]
Commit = Annotated[str | None, typer.Option("--commit", help="Commit of the code.")]
Data = Annotated[
    list[str] | None,
    typer.Option("--data", metavar="URI[#DIGEST]", help="What it was trained on. Repeat it."),
]
Parent = Annotated[
    str | None, typer.Option(metavar="NAME:VERSION", help="The version it was made from.")
]
TrainedBy = Annotated[str | None, typer.Option(help="Who trained it.")]
Target = Annotated[
    str,
    typer.Argument(
        metavar="NAME[:VERSION]",
        help="A version by number or alias; without one, the model itself.",
        autocompletion=completing.models,
    ),
]


def lineage(
    run: str | None,
    commit: str | None,
    data: list[str] | None,
    parent: str | None,
    trained_by: str | None,
) -> dict[str, Any]:
    """Return what was told of where a version comes from, as the API takes it."""
    given: dict[str, Any] = {"run": run, "code": commit, "parent": parent, "trained_by": trained_by}
    found = {name: value or None for name, value in given.items() if value is not None}
    if data:
        found["data"] = [_data(text) for text in data]
    return found


def statement(
    *,
    description: str | None,
    tags: list[str] | None,
    meta: list[str] | None,
    card: Path | None,
    aliases: list[str] | None,
    origin: dict[str, Any],
) -> "shapes.Statement":
    """Return what to say of a version that is registered."""
    from cloud import shapes

    fields: dict[str, Any] = {"tags": pairs(tags, "tag"), "metadata": pairs(meta, "meta")}
    fields |= {"aliases": aliases, "description": description, "lineage": origin}
    fields["card"] = None if card is None else read_card(card)
    return shapes.Statement.make(**{name: value for name, value in fields.items() if value})


def set_(
    *,
    model: Target,
    description: Description = None,
    tag: Tags = None,
    untag: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Remove a tag.")] = None,
    meta: Meta = None,
    unmeta: Annotated[list[str] | None, typer.Option(metavar="KEY", help="Remove it.")] = None,
    card: Card = None,
    no_card: Annotated[bool, typer.Option("--no-card", help="Remove the model card.")] = False,
    run: Run = None,
    commit: Commit = None,
    data: Data = None,
    parent: Parent = None,
    trained_by: TrainedBy = None,
    json: JsonFlag = False,
) -> None:
    """Say something else of a model or a version; what is not named stays."""
    tags: dict[str, str | None] = {**pairs(tag, "tag"), **dict.fromkeys(untag or ())}
    metadata: dict[str, str | None] = {**pairs(meta, "meta"), **dict.fromkeys(unmeta or ())}
    fields: dict[str, Any] = {"tags": tags, "metadata": metadata}
    fields["lineage"] = lineage(run, commit, data, parent, trained_by)
    fields = {field: value for field, value in fields.items() if value}
    if description is not None:
        fields["description"] = description
    if card is not None or no_card:
        fields["card"] = None if card is None else read_card(card)
    if not fields:
        raise InvalidError("set", model, "name what to change, such as --tag KEY=VALUE")
    _send(model, fields, json=json)


def _send(model: str, fields: dict[str, Any], *, json: bool) -> None:
    from cloud import shapes

    name, version = words.target(model)
    if version is None and "lineage" in fields:
        raise InvalidError("model", model, "lineage is of a version: write NAME:VERSION")
    with login.client() as registry:
        if version is None:
            about = registry.update_model(name, shapes.ModelChanges.make(**fields))
            output.as_json(about) if json else output.result(about.name)
        else:
            made = registry.update_version(name, version, shapes.VersionChanges.make(**fields))
            output.as_json(made) if json else output.result(f"{made.model}:{made.version}")


def pairs(texts: Iterable[str] | None, option: str) -> dict[str, str]:
    """Return KEY=VALUE texts as a dictionary; a value may hold anything."""
    found = {}
    for text in texts or ():
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InvalidError(option, text, "write KEY=VALUE")
        found[key.strip()] = value
    return found


def read_card(path: Path) -> str:
    """Return the text of a model card."""
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidError("card", str(path), f"give a text file in UTF-8: {error}") from error


def _data(text: str) -> dict[str, str]:
    uri, mark, digest = text.partition("#")
    return {"uri": uri, "digest": digest} if mark else {"uri": uri}
