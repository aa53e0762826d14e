"""The systemd unit of an agent, and the user that it runs as, as text. Nothing here writes.

    Type=notify, WatchdogSec   a hung agent is started anew; see edge_agent.servicemanager
    ProtectSystem=strict ...   it writes below its own directory and nowhere else
    MemoryMax, OOMPolicy       a model that grows dies alone; the agent and the device live on
    no network-online.target   a device boots and infers with no network

Devices stay visible (cameras, GPUs), and memory may be executable: engines that compile need both.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from runtime.errors import InvalidError

NAME = "packhorse-agent"
STATE = Path("/var/lib")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}")
_MEMORY = re.compile(r"[0-9]+(\.[0-9]+)?[KMGT%]?")
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/+@:-]*")
_HOMES = ("/home", "/root", "/run/user")


@dataclass(frozen=True)
class Wish:
    """What is installed."""

    command: tuple[str, ...]
    """The program, by its absolute path, and its arguments, but for --data."""
    data: Path
    user: str = "packhorse"
    groups: tuple[str, ...] = ()
    """Further groups of the user: video, render, docker."""
    memory: str = "80%"
    """What agent and models may use together."""
    writable: tuple[Path, ...] = ()
    """Further directories that it may write."""
    readable: tuple[Path, ...] = ()
    """What else it runs, wherever links lead: the Python behind the program."""


def check(wish: Wish) -> None:
    """Raise InvalidError for what would be no unit, or another one than was meant."""
    for field, names in (("user", (wish.user,)), ("group", wish.groups)):
        for name in names:
            if not _USER.fullmatch(name):
                raise InvalidError(field, name, "use a name of a-z, 0-9, '_' and '-'")
    if wish.user == "root":
        raise InvalidError("user", "root", "name a user of its own; it is made if it is missing")
    if not _MEMORY.fullmatch(wish.memory):
        raise InvalidError("memory-max", wish.memory, "write a size such as 80% or 2G")
    for path in (wish.data, *wish.writable, Path(wish.command[0])):
        if not _PLAIN_PATH.fullmatch(str(path)) or ".." in path.parts or path == Path("/"):
            raise InvalidError("path", str(path), "give an absolute path without spaces")


def render(wish: Wish) -> str:
    """Return the unit; raise InvalidError for a wish that makes none."""
    check(wish)
    home = any(map(_is_at_home, (wish.data, Path(wish.command[0]), *wish.readable)))
    lines = [
        "# Written by `packhorse-agent install`; put changes into a drop-in (systemctl edit).",
        "[Unit]",
        "Description=Packhorse agent: runs models on this device",
        "After=network.target time-set.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=notify",
        f"ExecStart={' '.join(map(_quoted, (*wish.command, '--data', str(wish.data))))}",
        f"User={wish.user}",
        f"Group={wish.user}",
        *([f"SupplementaryGroups={' '.join(wish.groups)}"] if wish.groups else ()),
        *_places(wish),
        "Restart=always",
        "RestartSec=2",
        "WatchdogSec=90",
        "TimeoutStartSec=120",
        "TimeoutStopSec=45",
        "KillMode=mixed",
        "OOMPolicy=continue",
        f"MemoryMax={wish.memory}",
        "TasksMax=1024",
        "LimitNOFILE=16384",
        "UMask=0027",
        *_FENCE,
        # A virtual environment below somebody's home can still be read.
        f"ProtectHome={'read-only' if home else 'yes'}",
        "",
        "[Install]",
        "WantedBy=multi-user.target",
        "",
    ]
    return "\n".join(lines)


def sysusers(wish: Wish) -> str:
    """Return what systemd-sysusers makes the user of."""
    check(wish)
    member = [f"m {wish.user} {group}" for group in wish.groups]
    return "\n".join([f'u {wish.user} - "Packhorse agent" {wish.data}', *member, ""])


_FENCE = (
    "NoNewPrivileges=yes",
    "CapabilityBoundingSet=",
    "AmbientCapabilities=",
    "ProtectSystem=strict",
    "PrivateTmp=yes",
    "ProtectClock=yes",
    "ProtectControlGroups=yes",
    "ProtectHostname=yes",
    "ProtectKernelLogs=yes",
    "ProtectKernelModules=yes",
    "ProtectKernelTunables=yes",
    "ProtectProc=invisible",
    "LockPersonality=yes",
    "RemoveIPC=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    "SystemCallFilter=@system-service",
    "SystemCallErrorNumber=EPERM",
)


def _places(wish: Wish) -> list[str]:
    """Return where it may write: systemd makes a directory of state by itself."""
    more = [str(path) for path in wish.writable]
    if wish.data.parent == STATE:
        found = [f"StateDirectory={wish.data.name}", "StateDirectoryMode=0750"]
    else:
        found, more = [], [str(wish.data), *more]
    return [*found, *([f"ReadWritePaths={' '.join(more)}"] if more else ())]


def _is_at_home(path: Path) -> bool:
    return any(path.is_relative_to(home) for home in _HOMES)


def _quoted(word: str) -> str:
    """Return a word of a command line as systemd reads it."""
    if re.fullmatch(r"[A-Za-z0-9._/+@:=-]+", word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'
