"""All that a device's operator may set: `{data}/agent.toml`, then the environment on top.

A variable is the field's name in capitals after `PACKHORSE_AGENT_`; its value is written as in
TOML (`PACKHORSE_AGENT_HTTP='{digits = 8080}'`), where plain text needs no quotes.
"""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import msgspec
from msgspec import Meta

from edge_agent.mind.turn import Limits
from runtime.errors import InvalidError

PREFIX = "PACKHORSE_AGENT_"
NOT_FIELDS = frozenset({"DATA", "CONFIG", "TOKEN", "LAUNCH", "SLOTS"})
"""Read by the command line and the launcher, not here."""
MAX_FILE_BYTES = 256 * 1024
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
"""Of a remote command."""

Operation = Literal["logs", "support", "restart", "infer", "exec", "update", "registry-login"]
ALL_OPERATIONS: tuple[Operation, ...] = get_args(Operation)
Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Megabytes = Annotated[int, Meta(ge=0, le=1_000_000)]
Port = Annotated[int, Meta(ge=1, le=65_535)]

DEVICES = tuple(
    f"/dev/{name}"
    for name in ("video*", "media*", "ttyACM*", "ttyUSB*", "i2c-*", "spidev*", "gpiochip*")
)
"""Cameras and what else sensors hang on; no disk, no memory, no keyboard."""


class AgentSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The fields of agent.toml."""

    heartbeat_s: Seconds = 60.0
    """A report goes out this often even if nothing has changed; after three of these without a
    word the registry counts the device as lost."""
    keepalive_s: Annotated[int, Meta(ge=5, le=3600)] = 30
    """MQTT keep-alive; raise it where every byte costs."""
    reconnect_most_s: Annotated[float, Meta(ge=1, le=86_400)] = 300.0
    """The longest wait between two tries to connect; waits are random, so that a fleet that lost
    its broker in one moment does not come back in one."""
    source_roots: tuple[str, ...] = ()
    """Directories below which `directory:` sources may read, beside `{data}/inbox`."""
    allow: tuple[Literal["entry-script", "pickle"], ...] = ("entry-script",)
    """Code that bundles may bring: their own Python, and pickles, which allows both. `[]`: data
    alone."""
    http: dict[str, Port] = {}
    """Module name to a port on 127.0.0.1 where it answers too, beside its Unix socket."""
    crash_limit: Annotated[int, Meta(ge=1, le=1000)] = 5
    """So many crashes without stable running between are a crash loop."""
    stable_s: Seconds = 60.0
    """A worker that has served this long is stable."""
    start_timeout_s: Seconds = 120.0
    """A model that has not loaded after this is refused."""
    engine_timeout_s: Seconds = 3600.0
    """A model for which TensorRT builds an engine on this board may load for so long."""
    engine_cap_mb: Megabytes = 2048
    """What engines of bundles that are no longer here may use of the disk, with all others."""
    check_timeout_s: Seconds = 120.0
    """A check that has not ended after this has failed."""
    outbox_cap_mb: Annotated[int, Meta(ge=8, le=1_000_000)] = 128
    """What the telemetry that waits for the registry may use of the disk."""
    reserve_mb: Megabytes = 64
    """What a download leaves free on the disk; less than this is reported as a trouble."""
    download_kbps: Annotated[int, Meta(ge=0)] = 0
    """What the link may carry down, in kilobits a second; 0: no limit. Nine tenths are for
    downloads, all of them together; the rest stays free for what steers the device."""
    upload_kbps: Annotated[int, Meta(ge=0)] = 0
    """The same up: nine tenths are for telemetry."""
    metered: bool = False
    """The link costs by the byte: downloads wait, unless their deployment says `metered: allow`."""
    transport: Literal["auto", "https", "mqtt"] = "auto"
    """How blobs come: over HTTPS, over the MQTT link alone, or over MQTT for a while whenever
    HTTPS does not get through."""
    lan_share: bool = False
    """Give parts of what this device downloads to others of its site (label `site`) on the local
    network, and take theirs. Where that network itself is metered, leave it off."""
    lan_address: str = ""
    """The address on which neighbours reach this device; "": found out, listens on all."""
    lan_port: Annotated[int, Meta(ge=0, le=65_535)] = 8770
    """The port for it; 0: any."""
    lan_share_mb: Megabytes = 256
    """What is kept of finished downloads for neighbours, at most; the disk's need goes first."""
    lan_kbps: Annotated[int, Meta(ge=0)] = 80_000
    """Neighbours are given at most so many kilobits a second, together; 0: no limit."""
    flush_s: Seconds = 4.0
    """A record waits at most this long for others to travel with. A power cut may take the records
    of this time and a second more. Twice as long is half the wear of the flash."""
    remote_operations: tuple[Operation, ...] = ALL_OPERATIONS
    """What the registry may have this device do, beside what it shall run; `[]`: nothing."""
    remote_commands: dict[str, tuple[str, ...]] = {}
    """What `packhorse devices exec` may run here, by name: a program's absolute path and its
    arguments, such as `uptime = ["/usr/bin/uptime"]`. No shell reads them."""
    engine_url: str = ""
    """Of the container engine, as in unix:///run/podman/podman.sock or ssh://HOST; "": Docker's
    socket if there is one, else Podman's."""
    image_fetch: Literal["agent", "engine"] = "agent"
    """Who fetches images: `agent`, which goes on after a cut and keeps to the rate, the budget and
    the window; or `engine`, by itself, for mirrors and proxies that it alone knows."""
    container_roots: tuple[str, ...] = ()
    """Directories below which containers may have paths of this device."""
    container_devices: tuple[str, ...] = DEVICES
    """Devices that containers may have; `*` stands for anything."""
    container_capabilities: tuple[str, ...] = ()
    """Linux capabilities that containers may keep, as in NET_BIND_SERVICE."""
    container_host_network: bool = False
    """Whether containers may be in the device's own network."""
    log_format: Literal["plain", "json"] = "plain"
    """json: one object a line, for log collectors."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """What is logged at least."""

    @property
    def limits(self) -> Limits:
        """Return what the rules of states.py go by."""
        return Limits(
            crash_limit=self.crash_limit,
            stable_s=self.stable_s,
            start_timeout_s=self.start_timeout_s,
            check_timeout_s=self.check_timeout_s,
            engine_timeout_s=self.engine_timeout_s,
        )


def default_data(home: Path, *, root: bool) -> Path:
    """Return the data directory where none is given."""
    return Path("/var/lib/packhorse") if root else home / ".local/share/packhorse-agent"


def load(file: Path | None, environment: Mapping[str, str]) -> AgentSettings:
    """Return the settings; raise InvalidError naming the field, its value and what would do.

    `file` None or missing: defaults.
    """
    values = _from_file(file) if file is not None and file.exists() else {}
    values.update(_from_environment(environment))
    return of(values)


def of(values: Mapping[str, Any]) -> AgentSettings:
    """Return settings with these values and defaults for the rest; raise InvalidError."""
    for name in values:
        if name not in AgentSettings.__struct_fields__:
            raise InvalidError(name, values[name], _nearest(name))
    try:
        made = msgspec.convert(dict(values), AgentSettings)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].partition("`")[0].partition("[")[0]
        raise InvalidError(field, values.get(field.split(".")[0]), str(error)) from error
    _check_commands(made.remote_commands)
    _check_engine(made.engine_url)
    for name in ("source_roots", "container_roots", "container_devices"):
        for path in getattr(made, name):
            if not Path(path).is_absolute():
                raise InvalidError(name, path, "give absolute paths")
    return made


def _check_commands(commands: Mapping[str, tuple[str, ...]]) -> None:
    for name, argv in commands.items():
        if not NAME.fullmatch(name):
            fix = "name commands with a-z, 0-9, '.', '_' and '-'"
            raise InvalidError("remote_commands", name, fix)
        if not argv or not Path(argv[0]).is_absolute():
            fix = "give a program's absolute path, then its arguments"
            raise InvalidError(f"remote_commands.{name}", list(argv), fix)


def _check_engine(url: str) -> None:
    if url and not url.startswith(("unix:///", "ssh://")):
        fix = "give a socket as in unix:///run/podman/podman.sock, or ssh://[USER@]HOST"
        raise InvalidError("engine_url", url, fix)


def _from_file(file: Path) -> dict[str, Any]:
    data = file.read_bytes()
    if len(data) > MAX_FILE_BYTES:
        raise InvalidError(str(file), f"{len(data)} bytes", f"at most {MAX_FILE_BYTES}")
    return _parse_toml(data, str(file))


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if name.startswith(PREFIX) and (field := name[len(PREFIX) :]) not in NOT_FIELDS:
            values[field.lower()] = _value(text)
    return values


def _value(text: str) -> Any:
    try:
        return _parse_toml(f"value = {text}\n".encode(), "environment")["value"]
    except InvalidError:
        return text


def _parse_toml(data: bytes, where: str) -> dict[str, Any]:
    # Here and not above: most devices have neither file nor variables.
    if sys.version_info >= (3, 11):
        import tomllib as toml  # noqa: PLC0415
    else:
        import tomli as toml  # noqa: PLC0415
    try:
        return toml.loads(data.decode("utf-8"))
    except (toml.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidError(where, data[:60], f"write it as TOML: {error}") from error


def _nearest(name: str) -> str:
    import difflib  # noqa: PLC0415 - only for this message

    near = difflib.get_close_matches(name, AgentSettings.__struct_fields__, n=1)
    fields = ", ".join(AgentSettings.__struct_fields__)
    return f"did you mean {near[0]}?" if near else f"the settings are {fields}"
