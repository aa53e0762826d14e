"""What a device can be asked to do from afar, beside CHECK, and what each kind takes.

    logs      what the agent has logged, or what a module's worker has printed
    support   one archive with all that a person needs who is to help; no secrets
    restart   a module's worker, or with no module the agent itself
    infer     the last prediction that a module recorded
    exec      one of the commands that the device's own agent.toml allows, by name
    registry-login   who the device is to an image registry; the password is sealed for it
    update    another version of the agent itself, into the slot that is not in use

Options travel as text by name, and both sides read them here: the registry refuses what no device
would take.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from runtime.errors import InvalidError

LOGS, SUPPORT, RESTART = "logs", "support", "restart"
INFER, EXEC, UPDATE = "infer", "exec", "update"
LOGIN = "registry-login"

Level = Literal["debug", "info", "warning", "error", "critical"]
Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9._-]{0,62}$")]
MAX_OPTIONS = 16
MAX_OPTION_CHARS = 8192
"""A token of 5 KB, sealed, is the longest."""


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Options of a kind that takes none."""


class LogsOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which lines."""

    since_s: Annotated[float, Meta(ge=0, le=366 * 86_400)] = 0.0
    """Only lines of the last so many seconds, by the device's clock; 0: of any age."""
    level: Level = "debug"
    """Only lines of this level and above."""
    lines: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """The newest of them, at most so many."""
    max_bytes: Annotated[int, Meta(ge=1024, le=4 * 1024 * 1024)] = 1024 * 1024
    """At most so much text, before it is compressed."""
    after: Annotated[str, Meta(max_length=128)] = ""
    """Only lines behind those of an answer before, whose `next` this is."""
    wait_s: Annotated[float, Meta(ge=0, le=60)] = 0.0
    """If there is no such line, wait for one, at most so long."""


class ExecOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to run."""

    name: Name
    """Of a command in the device's agent.toml (`remote_commands`)."""


class UpdateOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to become."""

    version: Annotated[str, Meta(pattern="^[0-9][0-9A-Za-z.!+_-]{0,63}$")]
    """Of the distribution, as the device's package index knows it."""


class LoginOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where, and who; with neither `sealed` nor `forget` the device tells its certificate."""

    registry: Annotated[str, Meta(pattern="^[A-Za-z0-9.:_-]{1,255}$")]
    """HOST or HOST:PORT, as images name it."""
    username: Annotated[str, Meta(max_length=255)] = ""
    sealed: Annotated[str, Meta(max_length=MAX_OPTION_CHARS)] = ""
    """The password, sealed to the device's certificate (runtime.sealing)."""
    forget: bool = False


Options = Nothing | LogsOptions | ExecOptions | UpdateOptions | LoginOptions
TAKES: dict[str, type[Options]] = {
    LOGS: LogsOptions,
    SUPPORT: Nothing,
    RESTART: Nothing,
    INFER: Nothing,
    EXEC: ExecOptions,
    UPDATE: UpdateOptions,
    LOGIN: LoginOptions,
}


def options(kind: str, given: Mapping[str, str]) -> Options:
    """Return the options of a kind; raise InvalidError for those that it does not take."""
    if len(given) > MAX_OPTIONS or any(len(value) > MAX_OPTION_CHARS for value in given.values()):
        raise InvalidError("options", f"{len(given)} of them", "send fewer and shorter ones")
    takes = TAKES.get(kind, Nothing)
    try:
        return msgspec.convert(dict(given), takes, strict=False)
    except msgspec.ValidationError as error:
        field = str(error).rpartition("$.")[2].rstrip("`")
        known = ", ".join(takes.__struct_fields__) or "none"
        fix = f"{error}; '{kind}' takes {known}"
        raise InvalidError(f"options.{field}", dict(given), fix) from error
