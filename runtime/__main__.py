"""`packhorse-runtime`: serve models here, or stand before those that do.

Each command is a module of runtime.commands with `add(commands)`, which adds its arguments, and
`run(arguments) -> int`. Exit codes: 0 done, 1 failed, 2 bad input.
"""

import argparse
import importlib
import importlib.metadata
import sys
from collections.abc import Sequence

from runtime.errors import InvalidError, PackhorseError

COMMANDS: tuple[str, ...] = ("serve", "gateway", "health", "launch")
"""Modules of runtime.commands, in the order of the help."""


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(prog="packhorse-runtime", description=__doc__.split("\n")[0])
    version = importlib.metadata.version("packhorse")
    made.add_argument("--version", action="version", version=version)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"runtime.commands.{name}").add(commands)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return its exit code."""
    chosen = parser().parse_args(arguments)
    try:
        return int(importlib.import_module(f"runtime.commands.{chosen.command}").run(chosen))
    except PackhorseError as error:
        sys.stderr.write(f"packhorse-runtime: {error}\n")
        return 2 if isinstance(error, InvalidError) else 1


if __name__ == "__main__":
    sys.exit(main())
