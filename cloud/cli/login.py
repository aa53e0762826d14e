"""`packhorse login`, and how every other command knows its registry.

The environment wins over what `login` stored: PACKHORSE_URL, PACKHORSE_KEY, PACKHORSE_CA (a file).
"""

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import output
from cloud.errors import LoginError
from runtime import files
from runtime.errors import InvalidError
from runtime.wording import counted

if TYPE_CHECKING:
    from cloud.client import Client

FETCH_TIMEOUT_S = 15.0


@dataclass(frozen=True)
class Login:
    """A registry and the right to use it."""

    url: str
    key: str
    ca: str | None
    """PEM; None: what this machine trusts."""


def config_path() -> Path:
    """Return where the login is stored: PACKHORSE_CONFIG, or the user's configuration."""
    if chosen := os.environ.get("PACKHORSE_CONFIG"):
        return Path(chosen)
    import platformdirs

    return platformdirs.user_config_path("packhorse") / "login.json"


def current() -> Login:
    """Return the login to use; raise InvalidError if there is none."""
    stored = _stored()
    url = os.environ.get("PACKHORSE_URL") or (stored.url if stored else "")
    key = os.environ.get("PACKHORSE_KEY") or (stored.key if stored else "")
    ca = stored.ca if stored is not None and stored.url == url else None
    if ca_file := os.environ.get("PACKHORSE_CA"):
        ca = _read_ca(Path(ca_file))
    if not url or not key:
        raise LoginError(
            "no registry to talk to: run `packhorse login URL`, or set PACKHORSE_URL and "
            "PACKHORSE_KEY"
        )
    return Login(url, key, ca)


def client() -> "Client":
    """Return a client of the current login's registry."""
    from cloud.client import Client

    login = current()
    return Client(login.url, login.key, login.ca)


def login(
    address: Annotated[
        str | None,
        typer.Argument(metavar="URL", help="The registry, e.g. https://registry.example:8443"),
    ] = None,
    url: Annotated[str | None, typer.Option(help="The same, as an option.")] = None,
    ca: Annotated[
        Path | None, typer.Option(help="File with the registry's CA certificate.")
    ] = None,
    ca_fingerprint: Annotated[
        str | None,
        typer.Option(help="SHA-256 of the registry's CA, as `packhorse serve` prints it."),
    ] = None,
) -> None:
    """Check a registry and an API key, and keep them for the other commands.

    The key comes from PACKHORSE_KEY, from standard input, or from a prompt; never from an option,
    where other users of this machine could see it.
    """
    from cloud.client import Client
    from runtime import tls

    place = url or address
    if place is None:
        raise LoginError("no registry named: run `packhorse login URL`")
    pem = None if ca is None else _read_ca(ca)
    if ca_fingerprint is not None:
        wanted = ca_fingerprint.replace(":", "").strip().lower()
        pem = tls.fetch_ca(place, wanted, FETCH_TIMEOUT_S)
    made = Login(place.rstrip("/"), _ask_key(), pem)
    with Client(made.url, made.key, made.ca, attempts=1) as registry:
        known = sum(1 for _ in registry.models())
    path = config_path()
    files.make_directory(path.parent)
    files.write_json(path, asdict(made))
    output.say(f"Logged in to {made.url} ({counted(known, 'model')}). Stored in {path}.")


def _ask_key() -> str:
    key = os.environ.get("PACKHORSE_KEY", "")
    if not key:
        key = (
            typer.prompt("API key", hide_input=True, err=True)
            if sys.stdin.isatty()
            else sys.stdin.readline()
        )
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise InvalidError("key", f"{len(key)} characters", "give the key that `serve` printed")
    return key


def _stored() -> Login | None:
    path = config_path()
    try:
        return Login(**json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise InvalidError(str(path), "not a login", "run `packhorse login` again") from error


def _read_ca(path: Path) -> str:
    try:
        return path.read_text("ascii")
    except (OSError, ValueError) as error:
        raise InvalidError(
            "ca", str(path), f"give a file with a PEM certificate: {error}"
        ) from error
