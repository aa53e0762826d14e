"""What `install` needs of a machine: looked at before anything is written."""

import grp
import os
import stat
from pathlib import Path

from edge_agent.errors import HostError
from edge_agent.host.unit import Wish
from runtime.errors import InvalidError

BOOTED = "run/systemd/system"
"""Is there where systemd is at work, says sd_booted(3)."""
RUNNABLE = ("identity.json", "journal.json")
"""With neither of them an agent has nothing to do, and ends."""


def require_root(what: str) -> None:
    """Raise HostError unless this process may change the system."""
    if os.geteuid() != 0:
        raise HostError(f"{what} changes this system: run it as root (sudo)")


def require_systemd(root: Path = Path("/")) -> None:
    """Raise HostError unless systemd is at work."""
    if not (root / BOOTED).is_dir():
        raise HostError(
            "systemd is not at work here: start `packhorse-agent run` by what is,"
            " or write the files alone with --root DIR"
        )


def require_possible(wish: Wish, *, start: bool, root: Path = Path("/")) -> None:
    """Raise InvalidError or HostError if the service could not be made, or would not start."""
    require_root("install")
    require_systemd(root)
    known = {each.gr_name for each in grp.getgrall()}
    for group in wish.groups:
        if group not in known:
            raise InvalidError("group", group, "name a group of this system (`getent group`)")
    for program in (Path(wish.command[0]), *wish.readable):
        if (closed := closed_to_others(program)) is not None:
            fix = f"make the environment elsewhere, such as /opt/packhorse: {closed} is closed"
            raise InvalidError("program", str(program), f"{fix} to user {wish.user}")
    if start and not any((wish.data / name).exists() for name in RUNNABLE):
        raise HostError(
            f"{wish.data} is not enrolled: run `packhorse-agent enrol --data {wish.data}` first,"
            " or install with --no-start"
        )


def closed_to_others(program: Path) -> Path | None:
    """Return what keeps another user from a program, wherever its links lead; None: nothing."""
    for path in (program, program.resolve()):
        for each in (*reversed(path.parents), path):
            if each.exists() and not each.stat().st_mode & stat.S_IXOTH:
                return each
    return None
