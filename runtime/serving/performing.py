"""Runs requests in a model's thread: one alone, several as one batch, or as a stream of pieces.

A batch is its requests' inputs, one below the other; each gets its own rows back, as views. If it
fails, or gives other rows than it was given, its requests run one by one: so only those fail that
would have failed alone.
"""

import logging
import time
from collections.abc import Callable

import numpy as np

from runtime.clock import Clock
from runtime.errors import InvalidError, ModelError, PackhorseError
from runtime.inference.tensors import Arrays
from runtime.serving.replies import StreamReply
from runtime.serving.served import OnPrediction, Prediction, Predictor
from runtime.serving.turns import Work

log = logging.getLogger(__name__)


class Performer:
    """What the threads of one model version do."""

    def __init__(
        self,
        model: Predictor,
        on_prediction: OnPrediction | None,
        clock: Clock,
        *,
        name: str,
        version: str,
        bundle: str,
    ) -> None:
        self._name, self._version, self._bundle, self._model = name, version, bundle, model
        self._on_prediction, self._clock = on_prediction, clock

    def perform(self, works: list[Work]) -> None:
        """Set each work's outcome; raise nothing."""
        try:
            if len(works) > 1 and self._together(works):
                return
            for work in works:
                self._alone(work)
        except BaseException as error:
            log.exception("prediction failed", extra={"model": self._name})
            for work in works:
                work.outcome = work.outcome or error

    def _alone(self, work: Work) -> None:
        if isinstance(work.reply, StreamReply):
            self._stream(work, work.reply)
            return
        at, started = self._clock.now(), time.perf_counter()
        try:
            work.outcome = self._model.predict(work.inputs, work.wanted)
        except (PackhorseError, MemoryError) as error:
            work.outcome = explained(error)
        self._show(work, at, time.perf_counter() - started)

    def _together(self, works: list[Work]) -> bool:
        """Run a batch; say whether it went well."""
        at, started = self._clock.now(), time.perf_counter()
        names = works[0].inputs
        joined = {name: np.concatenate([work.inputs[name] for work in works]) for name in names}
        wanted = works[0].wanted
        if any(work.wanted != wanted for work in works):
            wanted = None
        try:
            outputs = self._model.predict(joined, wanted)
        except (PackhorseError, MemoryError) as error:
            extra = {"model": self._name, "requests": len(works), "reason": str(error)}
            log.info("batch failed: its requests run one by one", extra=extra)
            return False
        rows = sum(work.rows for work in works)
        if any(array.shape[:1] != (rows,) for array in outputs.values()):
            log.warning("batch gave other rows than it was given", extra={"model": self._name})
            return False
        taken_s = time.perf_counter() - started
        start = 0
        for work in works:
            end = start + work.rows
            chosen = outputs if work.wanted is None else work.wanted
            work.outcome = {name: outputs[name][start:end] for name in chosen}
            start = end
        for work in works:
            self._show(work, at, taken_s)
        return True

    def _stream(self, work: Work, reply: StreamReply) -> None:
        """Hand over piece by piece; each is a prediction of its own to whoever watches."""
        pieces = self._model.stream(work.inputs, work.wanted)
        while True:
            at, started = self._clock.now(), time.perf_counter()
            try:
                piece = next(pieces, None)
            except (PackhorseError, MemoryError) as error:
                work.outcome = explained(error)
                self._show(work, at, time.perf_counter() - started)
                return
            if piece is None:
                reply.settle(None)
                return
            work.outcome = piece
            if not self._show(work, at, time.perf_counter() - started):
                return
            work.outcome = None
            if not reply.piece(piece):
                close: Callable[[], None] | None = getattr(pieces, "close", None)
                if close is not None:
                    close()
                return

    def _show(self, work: Work, at: float, taken_s: float) -> bool:
        """Show a prediction to whoever watches; say whether that went well.

        What is raised there takes the answer's place.
        """
        if self._on_prediction is None or isinstance(work.outcome, InvalidError):
            return True
        failed = isinstance(work.outcome, BaseException)
        outputs: Arrays | None = None if failed else work.outcome  # type: ignore[assignment] # it is no error
        try:
            self._on_prediction(
                Prediction(
                    model=self._name,
                    version=self._version,
                    at=at,
                    latency_ms=taken_s * 1000,
                    inputs=work.inputs,
                    outputs=outputs,
                    error=str(work.outcome) if failed else None,
                    request=work.ask.request,
                    origin=work.origin,
                    trace=work.ask.trace,
                    bundle=self._bundle,
                )
            )
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is awaited
            work.outcome = error
            return False
        return True


def explained(error: Exception) -> PackhorseError:
    """Return what a client is told of an error in a model."""
    if isinstance(error, PackhorseError):
        return error
    return ModelError("out of memory: raise resources.memory_mb, or send less")
