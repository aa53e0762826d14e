"""`--version` of a command line that looks the version up only when it is asked for."""

import argparse
import sys
from collections.abc import Callable
from typing import Any, NoReturn


class VersionFlag(argparse.Action):
    """An option that prints what `tell` returns, and exits.

    To find the version out takes as long as a command's start.
    """

    def __init__(self, *, tell: Callable[[], str], **named: Any) -> None:
        """Take no value."""
        super().__init__(**named, nargs=0, help="show it and exit")
        self._tell = tell

    def __call__(self, parser: argparse.ArgumentParser, *_arguments: Any) -> NoReturn:
        """Print it."""
        sys.stdout.write(f"{self._tell()}\n")
        parser.exit()
