"""All that `packhorse-runtime serve` may be told, checked."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle import policy
from runtime.errors import InvalidError
from runtime.serving.wire.limits import MIB, Limits

MIN_KEY_CHARS = 16
MAX_KEY_BYTES = 4096
LOOPBACK_NAMES = ("localhost", "ip6-localhost")


@dataclass(frozen=True)
class Settings:
    """One server's settings."""

    paths: tuple[str, ...] = ()
    """What to serve; see runtime.serving.library."""
    repository: Path | None = None
    """NAME/VERSION/ for each model."""
    all_versions: bool = False
    """Of the repository, not only each model's newest."""
    repository_api: bool = False
    """Clients may load and unload models."""
    host: str = "127.0.0.1"
    http_port: int | None = 8080
    """0: a free one; None: none."""
    grpc_port: int | None = None
    uds: Path | None = None
    api_key: str | None = None
    insecure: bool = False
    """Listen beyond this machine without a key."""
    max_body_bytes: int = 64 * MIB
    queue: int = 256
    """Requests that may wait for one model version."""
    timeout_s: float | None = None
    """How long a request may take if it does not say so itself."""
    drain_s: float = 30.0
    drain_delay_s: float = 0.0
    """How long it goes on listening once it is told to end, at least."""
    capture: Path | None = None
    capture_fraction: float = 0.0
    allow: tuple[str, ...] = policy.DEFAULT
    access_log: float = 0.0
    """Share of the requests that are logged."""

    @property
    def limits(self) -> Limits:
        """Return the bounds of the HTTP side."""
        return Limits(body_bytes=self.max_body_bytes, held_bytes=2 * self.max_body_bytes)


def require(settings: Settings) -> Settings:
    """Return the settings; raise InvalidError for those that do not go together."""
    if not settings.paths and settings.repository is None:
        fix = "name what to serve: a bundle's directory, a .tar, a .onnx, or --repository DIR"
        raise InvalidError("PATH", "", fix)
    if settings.repository_api and settings.repository is None:
        fix = "name the --repository that models are loaded from"
        raise InvalidError("--repository-api", "", fix)
    for name, port in (("--http-port", settings.http_port), ("--grpc-port", settings.grpc_port)):
        if port is not None and not 0 <= port <= 65535:  # noqa: PLR2004 - a port
            raise InvalidError(name, port, "give 0 to 65535; 0 takes a free one")
    if settings.http_port and settings.http_port == settings.grpc_port:
        raise InvalidError("--grpc-port", settings.grpc_port, "HTTP has it: choose another")
    for name, value, least in (
        ("--max-body-mb", settings.max_body_bytes, 1),
        ("--queue", settings.queue, 1),
        ("--timeout", settings.timeout_s or 1, 0.001),
        ("--drain-s", settings.drain_s, 0),
        ("--drain-delay-s", settings.drain_delay_s, 0),
    ):
        if value < least:
            raise InvalidError(name, value, f"give at least {least}")
    for name, share in (
        ("--capture-fraction", settings.capture_fraction),
        ("--access-log", settings.access_log),
    ):
        if not 0 <= share <= 1:
            raise InvalidError(name, share, "give a share, 0 to 1")
    _require_secured(settings)
    return settings


def read_key(path: Path) -> str:
    """Return the key in a file; raise InvalidError if there is none that may be one."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_KEY_BYTES + 1)
    except OSError as error:
        fix = f"{error.strerror}: write the key there"
        raise InvalidError("--api-key-file", str(path), fix) from error
    key = data.strip().decode("latin-1")
    printable = key.isascii() and key.isprintable() and " " not in key
    if len(data) > MAX_KEY_BYTES or len(key) < MIN_KEY_CHARS or not printable:
        fix = f"write one key there, {MIN_KEY_CHARS} or more letters and digits"
        raise InvalidError("--api-key-file", str(path), fix)
    return key


def is_loopback(host: str) -> bool:
    """Say whether only this machine reaches what listens there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES


def _require_secured(settings: Settings) -> None:
    listens = settings.http_port is not None or settings.grpc_port is not None
    if not listens or is_loopback(settings.host):
        return
    if settings.api_key is None and not settings.insecure:
        fix = (
            "others could ask this server: give it a key (--api-key-file FILE), or say"
            " --insecure if a gateway or firewall stands before it"
        )
        raise InvalidError("--host", settings.host, fix)
