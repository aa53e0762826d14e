"""A bundle whose script runs in a process of its own, so that it can hang or crash alone.

Of calls that were under way together when the process ended, nobody knows which was the cause: each
is made once more, with no other beside it, and only the one that ends the process again fails.
"""

import contextlib
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from runtime.bundle import index as bundle_index
from runtime.bundle import policy
from runtime.bundle.index import Index, Signature
from runtime.errors import ModelError
from runtime.inference import admission
from runtime.inference.model import PLATFORMS
from runtime.inference.tensors import Arrays
from runtime.serving.scripts import frames
from runtime.serving.scripts.__main__ import SWITCH
from runtime.serving.scripts.calls import EndedError
from runtime.serving.scripts.process import Script

TIMEOUT_S = 60.0
"""Unless the bundle says otherwise (resources.timeout_s)."""


class Isolated:
    """A served bundle with a script; implements runtime.serving.served.Predictor."""

    inline = False

    def __init__(
        self, directory: Path, index: Index, allow: Collection[str] = policy.DEFAULT
    ) -> None:
        """Start the process; raise ModelError if the bundle does not load there."""
        admission.require(directory, index, allow, SWITCH)
        start = frames.Start(str(directory), bundle_index.encode(index), tuple(allow))
        timeout_s = index.resources.timeout_s or TIMEOUT_S
        self._script = Script(start, name=index.name, timeout_s=timeout_s)
        self.signature: Signature = index.signature
        self.batching = index.batching
        self.platform = PLATFORMS[index.kind]
        started = self._script.started
        self.has_run, self.streams = started.has_run, started.streams
        self.callers, self.output_names = started.callers, started.output_names
        self._gate = _Gate(started.callers)

    @property
    def pid(self) -> int | None:
        """The process's number; None: there is none now."""
        return self._script.pid

    def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Return the named outputs, or all.

        Raises ModelError if the script fails, hangs or ends its process, InvalidError for a name,
        NotReadyError while its process cannot be started.
        """
        wanted = None if outputs is None else tuple(outputs)
        try:
            with self._gate.beside():
                return self._script.call(inputs, wanted)
        except EndedError as error:
            if not error.others:
                raise ModelError(str(error)) from error
        try:
            with self._gate.alone():
                return self._script.call(inputs, wanted)
        except EndedError as error:
            raise ModelError(str(error)) from error

    def stream(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Iterator[Arrays]:
        """Yield the pieces of an answer; raise what `predict` raises."""
        if not self.streams:
            yield self.predict(inputs, outputs)
            return
        wanted = None if outputs is None else tuple(outputs)
        try:
            with self._gate.beside():
                yield from self._script.stream(inputs, wanted)
        except EndedError as error:
            # Pieces may have been read already: they cannot be taken back.
            raise ModelError(str(error)) from error

    def close(self) -> None:
        """End the process."""
        self._script.close()


class _Gate:
    """Lets so many pass beside one another, or one alone."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._news = threading.Condition()
        self._inside = 0
        self._wants_alone = 0

    @contextlib.contextmanager
    def beside(self) -> Iterator[None]:
        """Pass with others."""
        with self._news:
            self._news.wait_for(lambda: self._inside < self._most and not self._wants_alone)
            self._inside += 1
        try:
            yield
        finally:
            with self._news:
                self._inside -= 1
                self._news.notify_all()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Pass with nobody else."""
        with self._news:
            self._wants_alone += 1
            self._news.wait_for(lambda: self._inside == 0)
            self._inside = self._most
        try:
            yield
        finally:
            with self._news:
                self._inside = 0
                self._wants_alone -= 1
                self._news.notify_all()
