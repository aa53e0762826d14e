"""A candidate's door: in the place of the HTTP server that a module's own worker has.

One thread for each connection of that worker; the model is asked by as many of them at once as it
bears. Nothing is recorded here: what an answer is given for is its asker's to say.
"""

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Sequence

from edge_agent.worker import line
from edge_agent.worker.line import Answered, Asked
from runtime.errors import PackhorseError
from runtime.inference import tensors
from runtime.inference.model import Model

log = logging.getLogger(__name__)


class Understudy:
    """Answers whoever connects."""

    def __init__(self, model: Model, bundle: str, sockets: Sequence[socket.socket]) -> None:
        """Take no connections yet."""
        self._model, self._bundle, self._sockets = model, bundle, sockets
        self._turns = threading.Semaphore(model.callers)

    async def accept(self) -> None:
        """Take connections until the process ends."""
        for listener in self._sockets:
            threading.Thread(target=self._listen, args=(listener,), daemon=True).start()

    def hold(self) -> None:
        """Do nothing: a candidate is ended, never held."""

    async def stop(self, grace_s: float) -> None:
        """Do nothing: nobody loses an answer who does not have another."""

    def _listen(self, listener: socket.socket) -> None:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            try:
                while (asked := line.receive(connection, Asked)) is not None:
                    line.send(connection, self._answer(asked))
            except line.LineError as error:
                log.warning("line is dropped", extra={"reason": str(error)})

    def _answer(self, asked: Asked) -> Answered:
        if asked.bundle != self._bundle:
            return Answered(error="another candidate listens here")
        try:
            inputs = tensors.conform(self._model.signature, line.unpack(asked.inputs))
            with self._turns:
                started = time.perf_counter()
                outputs = self._model.predict(inputs, asked.outputs)
                taken_ms = (time.perf_counter() - started) * 1000
            packed = line.pack(outputs)
        except PackhorseError as error:
            return Answered(cpu_s=time.process_time(), error=str(error) or type(error).__name__)
        return Answered(packed, taken_ms, time.process_time())
