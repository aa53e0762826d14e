"""`packhorse models alias`: set, list, remove."""

from typing import Annotated

import typer

from cloud.cli import completing, login, output, words
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError

app = typer.Typer(no_args_is_help=True, help="Names of versions that move: champion, canary.")

Name = Annotated[
    str, typer.Argument(metavar="ALIAS", help="1 to 63 of a-z, 0-9 and '-'; no number.")
]


@app.command("set")
def set_alias(
    model: Annotated[
        str, typer.Argument(metavar="NAME[:VERSION]", autocompletion=completing.models)
    ],
    alias: Name,
    *,
    json: JsonFlag = False,
) -> None:
    """Have an alias mean a version from now on; the newest if none is named."""
    name, version = words.reference(model)
    with login.client() as registry:
        made = registry.set_alias(name, alias, version)
    output.as_json(made) if json else output.result(f"{name}@{alias}: {name}:{made.version}")


@app.command("list")
def list_aliases(
    model: Annotated[str, typer.Argument(metavar="NAME", autocompletion=completing.models)],
    *,
    json: JsonFlag = False,
) -> None:
    """List the aliases of a model."""
    with login.client() as registry:
        found = registry.aliases(model)
    if json:
        output.as_json(found)
        return
    rows = [
        (each.name, f"{model}:{each.version}", output.moment(each.moved_at), each.moved_by)
        for each in found
    ]
    none = f"{model} has no aliases: `packhorse models alias set {model} champion` makes one."
    output.show(("alias", "version", "moved", "by"), rows, none=none)


@app.command("remove")
def remove_alias(
    alias: Annotated[str, typer.Argument(metavar="NAME@ALIAS", autocompletion=completing.models)],
) -> None:
    """Forget an alias; the version stays."""
    name, named = words.target(alias)
    if named is None:
        raise InvalidError("alias", alias, "write NAME@ALIAS")
    with login.client() as registry:
        registry.remove_alias(name, named)
    output.result(f"{name}@{named}: removed")
