"""Deltas that did not work, remembered on disk: no device dies of the same one for ever.

work/<blob>.doubt   how often a decoder for this blob began and was not seen to end

A decoder that fails says so, and its blob is fetched whole from then on. One that takes the whole
device down cannot say anything: the number that was written before it began speaks for it. A plain
power cut looks the same, so the first time is forgiven.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from runtime import files
from runtime.digests import Digest
from runtime.errors import PackhorseError

SUFFIX = ".doubt"
MOST_DEATHS = 2


class Doubts:
    """What is known against the deltas of each blob; for one thread."""

    def __init__(self, work: Path) -> None:
        """Keep the numbers beside the downloads."""
        self._work = work

    def about(self, blob: Digest) -> bool:
        """Say whether this blob shall come whole."""
        return self._deaths(blob) >= MOST_DEATHS

    def refuse(self, blob: Digest) -> None:
        """Have this blob come whole, for as long as it is wanted."""
        self._write(blob, MOST_DEATHS)

    @contextlib.contextmanager
    def trying(self, blob: Digest) -> Iterator[None]:
        """Decode in this block: if it is never left, that counts as a death."""
        before = self._deaths(blob)
        self._write(blob, before + 1)
        try:
            yield
        except PackhorseError:
            self._write(blob, before)
            raise
        files.remove(self._path(blob))

    def _deaths(self, blob: Digest) -> int:
        try:
            return int(self._path(blob).read_bytes()[:8])
        except FileNotFoundError:
            return 0
        except ValueError:  # the disk lied: take no risk
            return MOST_DEATHS

    def _write(self, blob: Digest, deaths: int) -> None:
        files.write_atomic(self._path(blob), b"%d\n" % deaths)

    def _path(self, blob: Digest) -> Path:
        return self._work / f"{blob}{SUFFIX}"
