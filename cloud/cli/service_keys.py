"""`packhorse services keys`: add, list, revoke."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cloud.cli import login, output
from cloud.cli import service_options as options
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError

app = typer.Typer(no_args_is_help=True, help="Say who may ask a service.")

Name = Annotated[str, typer.Argument(metavar="KEY", help="What people call it.")]


@app.command()
def add(
    service: options.Service,
    name: Name,
    per_s: Annotated[
        float | None, typer.Option(help="Requests a second that it may ask in the long run.")
    ] = None,
    burst: Annotated[
        int | None, typer.Option(help="Requests at once after a pause; twice --per-s if none.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Write the key there (0600), and do not print it.")
    ] = None,
    *,
    json: JsonFlag = False,
) -> None:
    """Make a key; it is shown only now."""
    from cloud import shapes

    if burst is not None and per_s is None:
        raise InvalidError("burst", burst, "give --per-s too")
    require_new(key_file)
    limit = None if per_s is None else {"per_s": per_s, "burst": burst or max(1, round(2 * per_s))}
    wish = shapes.NewServiceKey.make(name=name, limit=limit)
    with login.client() as registry:
        made = registry.add_service_key(service, wish)
    if key_file is not None:
        write(key_file, made.key)
        made = made.model_copy(update={"key": ""})
    if json:
        output.as_json(made)
    elif key_file is None:
        output.facts([("key", made.key)])
        output.say("The key is shown only now; send it as 'Authorization: Bearer KEY'.")


def require_new(path: Path | None) -> None:
    """Raise InvalidError for a file that a key could not be written to, before there is a key."""
    if path is not None and (path.exists() or not path.parent.is_dir()):
        raise InvalidError("key-file", str(path), "name a new file in a directory that is there")


def write(path: Path, key: str) -> None:
    """Write a key to a new file that nobody else can read."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="ascii") as file:
        file.write(key + "\n")
    output.say(f"The key is in {path}.")


@app.command("list")
def list_keys(service: options.Service, *, json: JsonFlag = False) -> None:
    """List the keys that work."""
    with login.client() as registry:
        found = list(registry.service_keys(service))
    if json:
        output.as_json(found)
        return
    rows = [
        (
            each.name,
            "none" if each.limit is None else f"{each.limit.per_s:g}/s, {each.limit.burst} at once",
            output.moment(each.created_at),
            each.created_by,
        )
        for each in found
    ]
    output.show(("key", "limit", "made", "by"), rows, none="No keys.")


@app.command()
def revoke(service: options.Service, name: Name) -> None:
    """Have a key work no more."""
    with login.client() as registry:
        registry.revoke_service_key(service, name)
    output.say(f"{name} is revoked.")
