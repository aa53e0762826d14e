"""Power cuts: the n-th moment at which one could matter, for any n.

After the cut nothing more becomes durable: every later commit point fails too.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import files


class PowerCut(BaseException):
    """The power is gone. No handler for errors may catch this."""


class Steps:
    """Counts commit points, and cuts the power at one of them."""

    def __init__(self, last: int | None) -> None:
        """Let this many pass; None: all."""
        self.seen = 0
        self._last = last

    def __call__(self, _step: str, _path: Path) -> None:
        """Stand in for files.commit_point."""
        if self._last is not None and self.seen >= self._last:
            raise PowerCut
        self.seen += 1


@contextlib.contextmanager
def after(steps: int | None) -> Iterator[Steps]:
    """Cut the power at the commit point after so many; the block ends there, quietly."""
    counter = Steps(steps)
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(PowerCut):
        patch.setattr(files, "commit_point", counter)
        yield counter
