"""`packhorse models delete`: a version, or a model with all its versions."""

from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import completing, login, output, words
from cloud.cli.output import JsonFlag
from cloud.errors import ConflictError

if TYPE_CHECKING:
    from cloud import shapes


def delete(
    model: Annotated[
        str,
        typer.Argument(
            metavar="NAME[:VERSION]",
            help="A version; without one, the model and all its versions.",
            autocompletion=completing.models,
        ),
    ],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say who uses it.")] = False,
    json: JsonFlag = False,
) -> None:
    """Delete a version, or a model: refused while a deployment, alias or ensemble uses it.

    History and telemetry stay, and so do its numbers: they are never given again.
    """
    name, version = words.target(model)
    with login.client() as registry:
        if version is not None:
            found = registry.version(name, version)
            version = str(found.version)
        what = name if version is None else f"{name}:{version}"
        if dry_run:
            _tell(what, registry.usage(name, version), json=json)
            return
        if not yes:
            everything = " and all its versions" if version is None else ""
            typer.confirm(f"Delete {what}{everything}?", abort=True, err=True)
        gone = registry.delete(name, version)
    if json:
        output.as_json(gone)
        return
    _warn(gone.running)
    output.result(f"{gone.deleted}: deleted")


def _tell(what: str, usage: "shapes.Usage", *, json: bool) -> None:
    if json:
        output.as_json(usage)
    else:
        rows = [(each.kind, each.id, each.name, each.version) for each in usage.users]
        output.show(("used by", "id", "name", "version"), rows, none=f"Nothing uses {what}.")
        _warn(usage.running)
    if usage.users:
        raise ConflictError(f"{what}: it is used, so it would not be deleted")


def _warn(devices: list[str]) -> None:
    if devices:
        output.say(f"Devices that still run it, and keep it: {', '.join(devices)}")
