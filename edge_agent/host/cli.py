"""The commands that change this machine: install, uninstall."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

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
    install.add_argument("--no-start", action="store_true", help="write and make, start nothing")
    uninstall = command(commands, "uninstall", _uninstall, "remove the service; its data stays")
    for each in (install, uninstall):
        each.add_argument(
            "--root", type=Path, default=Path("/"), help="of a system that is being built (/)"
        )


def _install(chosen: argparse.Namespace) -> int:
    from edge_agent.host import install  # noqa: PLC0415 - each command loads what it needs
    from edge_agent.host.unit import Wish  # noqa: PLC0415 - as above

    wish = Wish(
        command=install.this_command(),
        data=chosen.data.absolute(),
        user=chosen.user,
        groups=tuple(chosen.group),
        memory=chosen.memory_max,
    )
    _print(install.install(wish, root=chosen.root, start=not chosen.no_start))
    return 0


def _uninstall(chosen: argparse.Namespace) -> int:
    from edge_agent.host import install  # noqa: PLC0415 - as above

    _print(install.uninstall(root=chosen.root))
    return 0


def _print(lines: list[str]) -> None:
    print("\n".join(lines))  # noqa: T201 - a command line's answer
