"""`packhorse-runtime`: serve models here, or stand before those that do.

Each command is a module of runtime.commands with `add(commands)`, which adds its arguments, and
`run(arguments) -> int`. Only the one that is asked for is imported: a server is started often, and
soon. Exit codes: 0 done, 1 failed, 2 bad input.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence

from runtime.errors import InvalidError, PackhorseError
from runtime.versionflag import VersionFlag

COMMANDS: tuple[str, ...] = ("serve", "gateway", "health", "launch")
"""Modules of runtime.commands, in the order of the help."""


def parser(commands: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return what reads the command line of these commands."""
    made = argparse.ArgumentParser(prog="packhorse-runtime", description=__doc__.split("\n")[0])
    made.add_argument("--version", action=VersionFlag, tell=_version)
    added = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in commands:
        importlib.import_module(f"runtime.commands.{name}").add(added)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # The command that is meant need not wait for the others' imports.
    wanted = given[:1] if given and given[0] in COMMANDS else COMMANDS
    chosen = parser(wanted).parse_args(given)
    try:
        return int(importlib.import_module(f"runtime.commands.{chosen.command}").run(chosen))
    except PackhorseError as error:
        sys.stderr.write(f"packhorse-runtime: {error}\n")
        return 2 if isinstance(error, InvalidError) else 1


def _version() -> str:
    import importlib.metadata  # noqa: PLC0415 - see VersionFlag

    return importlib.metadata.version("packhorse")


if __name__ == "__main__":
    sys.exit(main())
