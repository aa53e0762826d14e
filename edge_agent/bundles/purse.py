"""What a deployment lets this device spend on one bundle, kept across restarts.

    downloads/<bundle>.spent    {"account", "bytes"}

Written before the bytes that it speaks of are asked for, a step ahead: a kill at any moment may
waste a step of the budget, and never spends a byte too much.
"""

import contextlib
from pathlib import Path

import msgspec

from edge_agent.mind.terms import Terms
from runtime import files
from runtime.digests import Digest
from runtime.errors import PackhorseError

SUFFIX = ".spent"
STEP_BYTES = 1 << 20


class BudgetError(PackhorseError):
    """The deployment's budget for this device is spent."""

    def __init__(self, *, spent_bytes: int, budget_bytes: int) -> None:
        super().__init__(
            f"budget: {spent_bytes} of {budget_bytes} bytes are spent and the bundle is not whole:"
            " raise budget_bytes, or retry the deployment"
        )
        self.spent_bytes, self.budget_bytes = spent_bytes, budget_bytes


class _Written(msgspec.Struct, frozen=True):
    account: str
    bytes: int


class Purse:
    """The money of one download; for one thread."""

    def __init__(self, work: Path, bundle: Digest, terms: Terms, budget_bytes: int) -> None:
        """Go on from what the same account has spent before."""
        self._path = work / f"{bundle}{SUFFIX}"
        self._account, self._budget_bytes = terms.account, budget_bytes
        self.spent_bytes = self._written_bytes = self._read()

    def room(self, count: int, *, least: int = 1) -> int:
        """Return how many of these bytes may be asked for; raise BudgetError if not `least`."""
        left = min(count, self._budget_bytes - self.spent_bytes)
        if left < least:
            self.settle()
            raise BudgetError(spent_bytes=self.spent_bytes, budget_bytes=self._budget_bytes)
        if self.spent_bytes + left > self._written_bytes:
            ahead = self.spent_bytes + max(left, STEP_BYTES)
            self._write(min(ahead, self._budget_bytes))
        return left

    def spend(self, count: int) -> None:
        """Take note of bytes that came."""
        self.spent_bytes += count

    def settle(self) -> None:
        """Write down what was really spent."""
        if self._written_bytes != self.spent_bytes:
            self._write(self.spent_bytes)

    def _read(self) -> int:
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            found = msgspec.json.decode(self._path.read_bytes(), type=_Written)
            if found.account == self._account:
                return max(0, found.bytes)
        return 0

    def _write(self, count: int) -> None:
        written = msgspec.json.encode(_Written(self._account, count))
        with files.explaining_full_disk(self._path, len(written)):
            files.write_atomic(self._path, written)
        self._written_bytes = count


def discard(work: Path, keep: set[str]) -> None:
    """Forget what was spent on all bundles but these."""
    for path in work.glob(f"*{SUFFIX}"):
        if path.name.removesuffix(SUFFIX) not in keep:
            files.remove(path)
