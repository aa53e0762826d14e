"""The commands that change this machine: install, uninstall, update."""

import argparse
import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from runtime.errors import InvalidError

if TYPE_CHECKING:
    from edge_agent.host.environments import Source

Commands: TypeAlias = Any
"""What argparse's add_subparsers returns: its class has no public name."""
Add: TypeAlias = Callable[[Commands, str, object, str], argparse.ArgumentParser]


def add(commands: Commands, command: Add) -> None:
    """Add them to the command line; `command` makes one with the options that all have."""
    install = command(commands, "install", _install, "make the agent a service of systemd")
    install.add_argument("--user", default="packhorse", help="who runs it (%(default)s)")
    install.add_argument(
        "--group", action="append", default=[], help="a further group: video, render, docker"
    )
    install.add_argument("--memory-max", default="80%", help="what agent and models may use (80%%)")
    install.add_argument(
        "--slots", metavar="WHEEL|VERSION", help="run it from two environments, for updates"
    )
    install.add_argument(
        "--self-update", action="store_true", help="let the agent change its own slots, from afar"
    )
    install.add_argument("--no-start", action="store_true", help="write and make, start nothing")
    update = command(commands, "update", _update, "try another version of the agent")
    update.add_argument("what", metavar="WHEEL|VERSION", nargs="?", help="a file, or a version")
    update.add_argument("--version", dest="version", help="the same, as an option")
    update.add_argument("--fresh", action="store_true", help="share no file with the other slot")
    for each in (install, update):
        _add_pip(each)
    uninstall = command(commands, "uninstall", _uninstall, "remove the service; its data stays")
    for each in (install, uninstall):
        each.add_argument(
            "--root", type=Path, default=Path("/"), help="of a system that is being built (/)"
        )


def _add_pip(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--index", help="a package index other than pip's own setting")
    parser.add_argument("--find-links", type=Path, help="a directory of wheels; no index is asked")
    parser.add_argument("--no-deps", action="store_true", help="install this package alone")
    parser.add_argument(
        "--system-site-packages",
        action="store_true",
        help="see what the system's Python has, such as NVIDIA's onnxruntime",
    )


def _source(chosen: argparse.Namespace, wanted: str) -> "Source":
    from edge_agent.host.environments import Source  # noqa: PLC0415 - as below

    options: list[str] = []
    if chosen.index:
        options += ["--index-url", chosen.index]
    if chosen.find_links:
        if not chosen.find_links.is_dir():
            raise InvalidError("find-links", str(chosen.find_links), "name a directory of wheels")
        options += ["--no-index", "--find-links", str(chosen.find_links.absolute())]
    if chosen.no_deps:
        options += ["--no-deps"]
    fresh = getattr(chosen, "fresh", False)
    return Source(wanted, tuple(options), chosen.system_site_packages, fresh)


def _update(chosen: argparse.Namespace) -> int:
    from edge_agent import status  # noqa: PLC0415 - as below
    from edge_agent.errors import NotRunningError  # noqa: PLC0415 - as below
    from edge_agent.host import update  # noqa: PLC0415 - as below

    wanted = chosen.version or chosen.what
    if not wanted:
        raise InvalidError("version", None, "name a wheel, or a version")
    directory = update.directory_of(chosen.data)
    pid, linked = None, False
    with contextlib.suppress(NotRunningError):
        told = status.ask(chosen.data / "run")
        pid, linked = told.pid, told.connected
    version = update.begin(directory, _source(chosen, wanted), linked=linked)
    how = "the next start begins with it"
    if pid is not None:
        os.kill(pid, signal.SIGHUP)
        how = "the agent begins again with it now"
    _print([f"version {version} is on trial: {how}", "it goes back by itself if it is no good"])
    return 0


def _install(chosen: argparse.Namespace) -> int:
    from edge_agent.host import checks, install, unit, update  # noqa: PLC0415 - each command loads what it needs
    from edge_agent.host.unit import Wish  # noqa: PLC0415 - as above

    if chosen.self_update and not chosen.slots:
        raise InvalidError("self-update", True, "give --slots too: there is nothing to change")
    directory, found = update.directory_of(chosen.data), []
    command = update.command(directory) if chosen.slots else install.this_command()
    mine = (directory if chosen.self_update else directory / "state",) if chosen.slots else ()
    wish = Wish(
        command=command,
        data=chosen.data.absolute(),
        user=chosen.user,
        groups=tuple(chosen.group),
        memory=chosen.memory_max,
        writable=mine,
        readable=(Path(sys.executable).resolve(),),
    )
    unit.check(wish)
    if chosen.root == install.ROOT:
        checks.require_possible(wish, start=not chosen.no_start)
    if chosen.slots:
        found = [_filled(update.first(directory, _source(chosen, chosen.slots)), chosen.slots)]
    _print([*found, *install.install(wish, root=chosen.root, start=not chosen.no_start)])
    return 0


def _filled(version: str, wanted: str) -> str:
    """Return what to say of the version that is in the slots."""
    if wanted == version or f"packhorse-{version}-" in wanted:
        return f"version {version} is in its slot"
    return f"kept version {version}: `packhorse-agent update {wanted}` tries another one"


def _uninstall(chosen: argparse.Namespace) -> int:
    from edge_agent.host import install  # noqa: PLC0415 - as above

    _print(install.uninstall(root=chosen.root))
    return 0


def _print(lines: list[str]) -> None:
    print("\n".join(lines))  # noqa: T201 - a command line's answer
