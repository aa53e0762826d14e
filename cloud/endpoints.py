"""Under which addresses the registry is reached; pure but for the file that remembers them."""

import socket
import urllib.parse
from dataclasses import asdict, dataclass
from pathlib import Path

import msgspec

from cloud.settings import Settings
from runtime import files
from runtime.errors import InvalidError

WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - only named here
MQTTS_PORT = 8883


@dataclass(frozen=True)
class Endpoints:
    """Where a running registry is; `run/endpoints.json`, for scripts and for the next start."""

    url: str
    broker_host: str
    broker_port: int
    pid: int
    http_port: int = 0


def remembered(data: Path) -> Endpoints | None:
    """Return where the registry on this data was last; None if it never was."""
    try:
        return msgspec.json.decode(_path(data).read_bytes(), type=Endpoints)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def remember(data: Path, endpoints: Endpoints) -> None:
    """Write down where the registry is, before anyone is told that it is ready."""
    files.make_directory(_path(data).parent)
    files.write_json(_path(data), asdict(endpoints))


def _path(data: Path) -> Path:
    return data / "run" / "endpoints.json"


def listen(host: str, port: int, *, last: int) -> socket.socket:
    """Return a listening socket; port 0 takes the `last` one again, where devices look, or any.

    Raises InvalidError if the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if port == 0 and last and is_free(host, last):
        port = last
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InvalidError(
            "address",
            f"{host}:{port}",
            f"{error.strerror}: stop the program that has it, or give another --host or --port",
        ) from error


def free_port(host: str, *, last: int) -> int:
    """Return a port that can be listened on: the `last` one if possible."""
    with listen(host, 0, last=last) as probe:
        port: int = probe.getsockname()[1]
        return port


def is_free(host: str, port: int) -> bool:
    """Say whether this address can be listened on now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError:
        return False
    return True


def near(host: str) -> str:
    """Return where to reach, from this machine, what listens on `host`."""
    return WILDCARDS.get(host, host)


def base_url(settings: Settings, port: int) -> str:
    """Return the URL that devices are given."""
    if settings.public_url is not None:
        return settings.public_url.rstrip("/")
    host = socket.gethostname() if settings.host in WILDCARDS else settings.host
    return f"https://{f'[{host}]' if ':' in host else host}:{port}"


def certificate_names(settings: Settings) -> list[str]:
    """Return the names that the server certificate needs beside those of this machine."""
    url = urllib.parse.urlsplit(settings.public_url or "").hostname
    own = None if settings.host in WILDCARDS else settings.host
    return [*settings.public_names, *filter(None, (own, url, settings.broker_public_host))]


def broker_of(url: str) -> tuple[str, int]:
    """Return host and port of an external broker; raise InvalidError unless it speaks TLS."""
    parts = urllib.parse.urlsplit(url)
    try:
        port = parts.port or MQTTS_PORT
    except ValueError:
        port = 0
    if parts.scheme != "mqtts" or not parts.hostname or not port or parts.path not in {"", "/"}:
        raise InvalidError("broker", url, "give mqtts://host:port")
    return parts.hostname, port
