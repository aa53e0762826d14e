"""Operations that only look: logs, and the last prediction of a module."""

import gzip
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from edge_agent.remote import loglines, printed
from edge_agent.remote.desk import Asked, Outcome
from edge_agent.remote.loglines import Chosen, Wanted
from edge_agent.remote.ring import Line, Ring
from runtime import operations
from runtime.batches import Record
from runtime.clock import Clock
from runtime.errors import InvalidError
from runtime.operations import LogsOptions

LOOK_S = 0.5
"""How often it is looked for new lines while somebody follows."""
SLACK_S = 2.0


class Logs:
    """Lines of the agent, from memory, and of workers, from their files."""

    def __init__(
        self,
        ring: Ring,
        directory: Path,
        clock: Clock,
        refresh: Callable[[str], None] = lambda _module: None,
    ) -> None:
        """`directory` holds a file for each module; `refresh` brings one up to date."""
        self._refresh = refresh
        self._ring, self._directory, self._clock = ring, directory, clock
        self._pause = threading.Event()

    def __call__(self, asked: Asked) -> Outcome:
        """Return the lines that are wanted, as gzip; wait for some if that is wanted."""
        options = asked.options
        assert isinstance(options, operations.LogsOptions)
        module, after = asked.command.module, options.after
        self._refresh(module)
        if module and not self._path(module).exists():
            raise InvalidError("module", module[:80], "no worker of that name has printed here")
        until = time.monotonic() + min(options.wait_s, asked.left_s() - SLACK_S)
        while True:
            lines, following = self._read(module, after)
            chosen = loglines.choose(lines, self._wanted(options))
            if chosen.texts or time.monotonic() >= until:
                return _told(chosen, following)
            after = following
            self._pause.wait(LOOK_S)
            self._refresh(module)

    def read(self, module: str, after: str = "") -> list[Line]:
        """Return all lines of the agent ("") or of a module."""
        return self._read(module, after)[0]

    def modules(self) -> list[str]:
        """Return the modules whose workers have printed something."""
        return sorted(path.stem for path in self._directory.glob("*.log"))

    def _read(self, module: str, after: str) -> tuple[list[Line], str]:
        return printed.read(self._path(module), after) if module else self._ring.read(after)

    def _path(self, module: str) -> Path:
        if not module.replace("-", "a").isalnum():
            raise InvalidError("module", module[:80], "use a-z, 0-9 and '-'")
        return self._directory / f"{module}.log"

    def _wanted(self, options: LogsOptions) -> Wanted:
        since = self._clock.now() - options.since_s if options.since_s else None
        level = loglines.level_number(options.level)
        return Wanted(since, level, options.lines, options.max_bytes)


def _told(chosen: Chosen, following: str) -> Outcome:
    facts = {
        "next": following,
        "lines": str(len(chosen.texts)),
        "left_out": str(chosen.left_out),
    }
    data = gzip.compress(chosen.encoded(), 6, mtime=0) if chosen.texts else b""
    return Outcome(f"{len(chosen.texts)} lines", data, facts)


class Inference:
    """The last prediction that each module recorded since the agent started."""

    def __init__(self, newest: Callable[[str], Record | None]) -> None:
        """`newest` returns a module's last record."""
        self._newest = newest

    def __call__(self, asked: Asked) -> Outcome:
        """Return it as JSON."""
        module = asked.command.module
        record = self._newest(module)
        if record is None:
            fix = "no prediction of it was recorded since the agent started"
            raise InvalidError("module", module[:80], fix)
        return Outcome(f"the last prediction of {module}", msgspec.json.encode(record))
