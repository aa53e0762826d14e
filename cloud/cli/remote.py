"""`packhorse devices` logs, support, restart, infer, exec: what a device does on one's word.

Over MQTT, so a device needs no open port; it must be connected. docs/operations.md says which role
each needs.
"""

import base64
import os
import sys
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from cloud.cli import imagelogins, login, output, words
from cloud.cli.output import JsonFlag
from cloud.errors import ClientError, GaveUpError
from runtime import operations, sealing
from runtime.errors import InvalidError, LinkError

if TYPE_CHECKING:
    from cloud import shapes
    from cloud.client import Client

Id = Annotated[str, typer.Argument(metavar="DEVICE")]
Module = Annotated[str, typer.Option(help="This module; none: the agent itself.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait for the device.")]
FOLLOW_S = 20.0
"""How long the device waits for a line before it answers that there is none."""
MAX_PASSWORD_BYTES = 5 * 1024
"""What fits into a command once it is sealed."""
AGAIN_S = 2.0
MAX_TEXT_BYTES = 8 * 1024 * 1024


def logs(
    device: Id,
    *,
    since: Annotated[str, typer.Option(help="Of the last 30s, 10m, 2h, 1d.")] = "",
    level: Annotated[str, typer.Option(help="debug, info, warning or error, and above.")] = "debug",
    module: Module = "",
    lines: Annotated[int, typer.Option(help="The newest, at most so many.")] = 1000,
    timeout: Timeout = 30.0,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until Ctrl-C.")] = False,
) -> None:
    """Show what a device's agent has logged, or what a module's worker has printed."""
    options = {"level": level, "lines": str(lines)}
    if since:
        options["since_s"] = f"{words.duration(since, 'since'):g}"
    away = threading.Event()
    with login.client() as registry:
        while True:
            try:
                found = _ask(registry, _Wish(device, operations.LOGS, module, timeout, options))
            except (ClientError, LinkError) as error:
                # Who follows waits for a device, or a registry, that is away.
                if "after" not in options or not error.retryable:
                    raise
                output.say(str(error))
                away.wait(AGAIN_S)
                continue
            text = _inflate(_data(found))
            sys.stdout.write(text)
            sys.stdout.flush()
            if found.facts.get("left_out", "0") != "0":
                output.say(f"{found.facts['left_out']} older lines are left out: see --lines")
            if not follow:
                return
            options = {"level": level, "after": found.facts["next"], "wait_s": f"{FOLLOW_S:g}"}


def support(
    device: Id,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The new file; default: DEVICE-support.tar.gz."),
    ] = None,
    timeout: Timeout = 120.0,
) -> None:
    """Fetch what somebody needs who is to help: settings without secrets, journal, vitals, logs."""
    out = out or Path(f"{device}-support.tar.gz")
    if out.exists():
        raise InvalidError("out", str(out), "name a file that does not exist")
    with login.client() as registry:
        found = _ask(registry, _Wish(device, operations.SUPPORT, "", timeout))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
    with os.fdopen(os.open(out, flags, 0o600), "wb") as file:
        file.write(_data(found))
    output.result(f"{out}: {found.text}")


def restart(device: Id, module: Module = "", timeout: Timeout = 60.0) -> None:
    """Start a module's worker anew, or the agent itself, and wait until the module answers."""
    with login.client() as registry:
        found = _ask(registry, _Wish(device, operations.RESTART, module, timeout))
    output.result(f"{device}: {found.text}")


def infer(
    device: Id,
    module: Annotated[str, typer.Argument(metavar="MODULE")],
    timeout: Timeout = 30.0,
) -> None:
    """Show the last prediction that a module recorded, as JSON."""
    with login.client() as registry:
        found = _ask(registry, _Wish(device, operations.INFER, module, timeout))
    output.result(_data(found).decode("utf-8", "replace"))


def execute(
    device: Id,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As the device's agent.toml has it.")],
    timeout: Timeout = 60.0,
    *,
    json: JsonFlag = False,
) -> None:
    """Run one of the commands that the device itself allows; exit code 1 if that one failed."""
    with login.client() as registry:
        found = _answer(registry, _Wish(device, operations.EXEC, "", timeout, {"name": name}))
    if json:
        output.as_json(found)
    else:
        sys.stdout.write(_data(found).decode("utf-8", "replace"))
        sys.stdout.flush()
    if not found.ok:
        raise GaveUpError(f"{device}: {found.text}")


def update_agent(
    device: Id,
    version: Annotated[str, typer.Argument(metavar="VERSION")],
    timeout: Timeout = 300.0,
) -> None:
    """Have a device make another version of its agent ready, switch to it, and prove it."""
    with login.client() as registry:
        found = _ask(registry, _Wish(device, operations.UPDATE, "", timeout, {"version": version}))
    output.result(f"{device}: {found.text}")


def registry_login(
    device: Id,
    registry: Annotated[str, typer.Argument(metavar="REGISTRY", help="HOST or HOST:PORT.")],
    *,
    username: Annotated[str, typer.Option(help="The password is read from stdin.")] = "",
    forget: Annotated[bool, typer.Option("--forget", help="Forget the login.")] = False,
    timeout: Timeout = 30.0,
) -> None:
    """Have a device log in to an image registry; it alone can read the password."""
    options = {"registry": registry}
    with login.client() as client:
        if forget:
            options["forget"] = "true"
        else:
            if not username:
                raise InvalidError("username", "", "give --username; the password is on stdin")
            password = imagelogins.read_password(MAX_PASSWORD_BYTES).encode()
            told = _ask(client, _Wish(device, operations.LOGIN, "", timeout, options))
            options |= {"username": username, "sealed": sealing.seal(password, _data(told))}
        found = _ask(client, _Wish(device, operations.LOGIN, "", timeout, options))
    output.result(f"{device}: {found.text}")


class _Wish(NamedTuple):
    device: str
    kind: str
    module: str = ""
    timeout_s: float = 60.0
    options: dict[str, str] | None = None


def _ask(registry: "Client", wish: _Wish) -> "shapes.CommandResult":
    """Return the answer; raise GaveUpError if the device will not do it."""
    found = _answer(registry, wish)
    if not found.ok:
        raise GaveUpError(f"{wish.device}: {found.text}")
    return found


def _answer(registry: "Client", wish: _Wish) -> "shapes.CommandResult":
    from cloud import shapes

    options = wish.options or {}
    operations.options(wish.kind, options)
    asked = shapes.NewCommand.make(
        kind=wish.kind, module=wish.module, timeout_s=wish.timeout_s, options=options
    )
    return registry.command(wish.device, asked)


def _data(found: "shapes.CommandResult") -> bytes:
    return base64.b64decode(found.data)


def _inflate(data: bytes) -> str:
    """Return text out of gzip; a device cannot make it larger than it may be."""
    if not data:
        return ""
    try:
        text = zlib.decompressobj(wbits=31).decompress(data, MAX_TEXT_BYTES)
    except zlib.error as error:
        raise InvalidError("data", data[:20], f"the device sent no gzip: {error}") from error
    return "".join(
        char for char in text.decode("utf-8", "replace") if char.isprintable() or char in "\n\t"
    )
