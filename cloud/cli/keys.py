"""`packhorse keys`: create, list, revoke."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import login, output, service_keys
from cloud.cli.output import JsonFlag

if TYPE_CHECKING:
    from cloud import shapes

app = typer.Typer(no_args_is_help=True, help="Say who may ask this registry, and what.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Who it is for; given once.")]


@app.command()
def create(
    name: Name,
    role: Annotated[
        str, typer.Option(help="viewer: look; operator: also deploy; admin: everything.")
    ],
    key_file: Annotated[
        Path | None, typer.Option(help="Write the key there (0600), and do not print it.")
    ] = None,
    *,
    json: JsonFlag = False,
) -> None:
    """Make a key with a role; it is shown only now."""
    from cloud import shapes

    service_keys.require_new(key_file)
    wish = shapes.NewKey.make(name=name, role=role)
    with login.client() as registry:
        made = registry.make_key(wish)
    if key_file is not None:
        service_keys.write(key_file, made.key)
        made = made.model_copy(update={"key": ""})
    if json:
        output.as_json(made)
    elif key_file is None:
        output.facts([("key", made.key)])
        output.say("The key is shown only now; whoever gets it runs `packhorse login`.")


@app.command("list")
def list_keys(*, json: JsonFlag = False) -> None:
    """List keys, revoked ones among them."""
    with login.client() as registry:
        found = list(registry.keys())
    if json:
        output.as_json(found)
        return
    rows = [(each.name, each.role, output.moment(each.created_at), _state(each)) for each in found]
    output.show(("key", "role", "made", "state"), rows, none="No keys.")


@app.command()
def revoke(name: Name, *, json: JsonFlag = False) -> None:
    """Have a key work no more, at once. The last admin's key cannot be revoked."""
    with login.client() as registry:
        found = registry.revoke_key(name)
    if json:
        output.as_json(found)
    else:
        output.result(f"{found.name}: revoked")


def _state(key: "shapes.Key") -> str:
    return "works" if key.revoked_at is None else f"revoked {output.moment(key.revoked_at)}"
