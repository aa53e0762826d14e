"""The durable half of the agent's state: one small file, replaced as a whole.

    {data}/journal.json      {"sha256": …, "saved": {…}}
    {data}/journal.json.1    the one before

A file that a failing disk has damaged is noticed by its digest; then the one before is taken, which
the registry brings up to date, and if that is bad too the agent starts with nothing but says so.
"""

import contextlib
import logging
from pathlib import Path

import msgspec

from edge_agent.mind.states import SavedState
from runtime import digests, files
from runtime.errors import InvalidError

log = logging.getLogger(__name__)

FORMAT = 1
MAX_JOURNAL_BYTES = 4 * 1024 * 1024


class _Sealed(msgspec.Struct, frozen=True):
    """A state and the digest of its bytes."""

    sha256: str
    saved: msgspec.Raw
    format: int = FORMAT


class Journal:
    """Where the state is written down; used by the owner thread alone."""

    def __init__(self, directory: Path) -> None:
        """Keep the journal in a directory that exists."""
        self.path = directory / "journal.json"
        self.copy = directory / "journal.json.1"
        self._last: SavedState | None = None

    def read(self) -> tuple[SavedState, str]:
        """Return what was written last, and what is wrong with the journal ('' if nothing is)."""
        troubles = []
        for path in (self.path, self.copy):
            try:
                saved = read_file(path)
            except FileNotFoundError:
                continue
            except (InvalidError, OSError) as error:
                log.error("journal cannot be read", extra={"path": str(path), "reason": str(error)})  # noqa: TRY400 - it is told
                troubles.append(f"journal: {error}")
                continue
            if path == self.path:
                self._last = saved
            return saved, "; ".join(troubles)
        return SavedState(), "; ".join(troubles)

    def write(self, saved: SavedState) -> bool:
        """Make a state durable if it is not; return whether anything had to be written.

        Raises OSError if the disk does not take it; what was written before then still stands.
        """
        if saved == self._last:
            return False
        raw = msgspec.json.encode(saved)
        sealed = _Sealed(sha256=digests.of_bytes(raw), saved=msgspec.Raw(raw))
        if self._last is not None:
            self._keep_copy()
        files.write_atomic(self.path, msgspec.json.encode(sealed))
        self._last = saved
        return True

    def _keep_copy(self) -> None:
        """Keep the present file under its other name; its bytes are durable already.

        This frees the copy before, so that on a full disk there is room for the next journal.
        """
        link = self.copy.with_name(f".{self.copy.name}{files.TEMPORARY_SUFFIX}")
        with contextlib.suppress(FileNotFoundError):
            link.unlink()
        link.hardlink_to(self.path)
        files.commit_point("rename", self.copy)
        link.replace(self.copy)


def read_file(path: Path) -> SavedState:
    """Return the state in a file; raise FileNotFoundError, or InvalidError if it is damaged."""
    data = path.read_bytes()
    if len(data) > MAX_JOURNAL_BYTES:
        raise InvalidError(path.name, f"{len(data)} bytes", f"at most {MAX_JOURNAL_BYTES}")
    fix = "it is damaged; the copy before it is taken, or the registry's word"
    try:
        sealed = msgspec.json.decode(data, type=_Sealed)
        saved = msgspec.json.decode(sealed.saved, type=SavedState)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidError(path.name, data[:40], f"{fix} ({error})") from error
    if sealed.format > FORMAT:
        raise InvalidError(path.name, sealed.format, f"this agent reads up to {FORMAT}: upgrade it")
    if digests.of_bytes(bytes(sealed.saved)) != sealed.sha256:
        raise InvalidError(path.name, sealed.sha256, fix)
    return saved
