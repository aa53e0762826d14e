"""`packhorse image-logins`: set, list, remove."""

import sys
from typing import Annotated

import typer

from cloud.cli import login, output
from cloud.cli.output import JsonFlag
from runtime.errors import InvalidError
from runtime.imagelogins import MAX_PASSWORD_BYTES

app = typer.Typer(no_args_is_help=True, help="Say who devices are to image registries.")


@app.command("set")
def keep(
    registry: Annotated[str, typer.Argument(metavar="REGISTRY", help="HOST or HOST:PORT.")],
    *,
    username: Annotated[str, typer.Option(help="The password is read from stdin.")],
    to: Annotated[str, typer.Option(help="The devices that shall have it: a selector.")] = "all",
    json: JsonFlag = False,
) -> None:
    """Keep a login, or another password in place of the one that these devices had.

    Each device gets it sealed, so that it alone can read it; one that is away when it comes back.
    """
    password = read_password(MAX_PASSWORD_BYTES)
    with login.client() as client:
        made = client.keep_image_login(registry, username=username, password=password, selector=to)
    text = f"{made.id}: {made.username} at {made.registry} for {made.selector}"
    output.as_json(made) if json else output.result(text)


@app.command("list")
def list_image_logins(*, json: JsonFlag = False) -> None:
    """List logins; passwords are never shown."""
    with login.client() as client:
        found = list(client.image_logins())
    if json:
        output.as_json(found)
        return
    rows = [
        (
            str(each.id),
            each.registry,
            each.username,
            each.selector,
            f"{output.moment(each.changed_at)} by {each.changed_by}",
        )
        for each in found
    ]
    columns = ("login", "registry", "username", "devices", "changed")
    output.show(columns, rows, none="No image logins yet.")


@app.command()
def remove(
    number: Annotated[int, typer.Argument(metavar="LOGIN", help="As `list` shows it.")],
) -> None:
    """Forget a login; the devices that have it forget it too."""
    with login.client() as client:
        client.remove_image_login(number)
    output.say(f"{number} is removed.")


def read_password(most_bytes: int) -> str:
    """Return what stdin holds, less the end of its line: never an argument, which all may see."""
    data = sys.stdin.buffer.read(most_bytes + 3).rstrip(b"\r\n")
    fix = f"give it on stdin, in UTF-8, at most {most_bytes} bytes: … < password"
    if not 0 < len(data) <= most_bytes:
        raise InvalidError("password", f"{len(data)} bytes", fix)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise InvalidError("password", f"{len(data)} bytes", fix) from error
