"""Models by name and version, and how to ask them, whatever carries the question.

Transports decode bytes to arrays, call a DataPlane, and encode what it returns or raises. A model
measured to be quick runs in the event loop (`run_now`); every other one has a queue and threads of
its own (`run`, `stream`). Every prediction that reaches a model, good or bad, is shown to
`on_prediction` before its answer leaves; a request that is refused before (InvalidError,
UnknownModelError, BusyError, …) is not.
"""

import asyncio
import time
import weakref
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from runtime.clock import Clock, SystemClock
from runtime.errors import InvalidError, ModelError
from runtime.inference import tensors
from runtime.inference.tensors import Arrays
from runtime.serving import turns
from runtime.serving.batching import Rules
from runtime.serving.catalogue import Catalogue
from runtime.serving.errors import DeadlineError
from runtime.serving.measuring import UNMEASURED, Measured
from runtime.serving.metrics import Meter
from runtime.serving.performing import Performer, explained
from runtime.serving.replies import Carrier, LoopReply, StreamReply, ThreadReply
from runtime.serving.served import (
    NO_ASK,
    Ask,
    OnPrediction,
    Origin,
    Prediction,
    Predictor,
    Served,
)
from runtime.serving.turns import Turns, Work

MAX_ID_CHARS = 256
QUEUE_LIMIT = 256
POLL_S = 0.02
EXPIRED = "the request waited too long: nobody expects its answer any more"


class DataPlane(Catalogue):
    """Models that can be asked."""

    def __init__(
        self,
        *,
        on_prediction: OnPrediction | None = None,
        clock: Clock | None = None,
        queue_limit: int = QUEUE_LIMIT,
    ) -> None:
        """Make an empty one.

        `on_prediction` is called where the model ran: in its thread, or in the event loop. What it
        raises reaches whoever asked, in place of the answer.
        """
        super().__init__()
        self._on_prediction, self._clock = on_prediction, clock or SystemClock()
        self._queue_limit = queue_limit
        self._carrier: Carrier | None = None
        self.meter = Meter()
        self.meter.queues = self._queues

    # Models ---------------------------------------------------------------------------------------

    def add(
        self,
        name: str,
        version: str,
        model: Predictor,
        measured: Measured = UNMEASURED,
        *,
        bundle: str = "",
    ) -> Served | None:
        """Serve a model, from now on also by its name alone; return what it takes the place of.

        `bundle` is its digest, for the records of its predictions.
        """
        performer = Performer(
            model, self._on_prediction, self._clock, name=name, version=version, bundle=bundle
        )
        waits = Turns(
            name,
            performer.perform,
            threads=model.callers,
            queue_limit=self._queue_limit,
            rules=_rules(model),
            tally=self.meter.tally(name, version, "threads"),
        )
        tally = self.meter.tally(name, version)
        served = Served(
            name, version, model, measured=measured, turns=waits, tally=tally, bundle=bundle
        )
        weakref.finalize(served, _let_go, waits, model).atexit = False
        return self.put(served)

    def close(self, timeout_s: float = 5.0) -> None:
        """End the models' threads once what waits is done."""
        for served in self.served:
            served.turns.close(timeout_s)
            served.model.close()

    async def drain(self, timeout_s: float) -> bool:
        """Welcome no new work, and wait until what is here is done; say whether it is in time."""
        self.draining = True
        deadline = time.monotonic() + timeout_s
        while not all(served.turns.idle for served in self.served):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(POLL_S)
        return True

    # Asking ---------------------------------------------------------------------------------------

    def run_now(
        self,
        served: Served,
        inputs: Arrays,
        wanted: Sequence[str] | None = None,
        ask: Ask = NO_ASK,
    ) -> Arrays:
        """Return the answer of a quick model, in this thread; for inputs that `served.fits`.

        Raises InvalidError, ModelError, or what `on_prediction` raises.
        """
        tally = served.tally
        at = 0.0 if self._on_prediction is None else self._clock.now()
        started = time.perf_counter()
        try:
            if wanted is not None:
                served.require_outputs(wanted)
            outputs = served.predict(inputs, wanted)
        except (ModelError, InvalidError, MemoryError) as error:
            failure = explained(error)
            tally.failed(turns.kind_of(failure))
            if isinstance(failure, ModelError):
                taken_s = time.perf_counter() - started
                self._show(served, inputs, ask, at=at, taken_s=taken_s, error=str(failure))
            raise failure from error
        taken_s = time.perf_counter() - started
        tally.requests += 1
        tally.run.observe(taken_s)
        if self._on_prediction is not None:
            self._show(served, inputs, ask, at=at, taken_s=taken_s, outputs=outputs)
        return outputs

    async def run(
        self,
        served: Served,
        inputs: Arrays,
        wanted: Sequence[str] | None = None,
        ask: Ask = NO_ASK,
    ) -> Arrays:
        """Return the model's answer, once it is its turn. Cancelled, it does not begin.

        Raises InvalidError (the request's fault), ModelError (the model's), BusyError (too many
        wait), DeadlineError, NotReadyError (it was unloaded), or what `on_prediction` raises.
        """
        if served.quick and served.fits(inputs):
            return self.run_now(served, inputs, wanted, ask)
        loop = asyncio.get_running_loop()
        carrier = self._carrier
        if carrier is None or carrier.loop is not loop:
            carrier = self._carrier = Carrier(loop)
        reply = LoopReply(carrier)
        work = self._queue(served, inputs, wanted, ask, reply)
        timer = _at(loop, ask.deadline, _expire, reply.future)
        try:
            return await reply.future
        except (asyncio.CancelledError, DeadlineError) as error:
            served.turns.drop(work)
            if not work.begun:
                kind = "deadline" if isinstance(error, DeadlineError) else "cancelled"
                served.tally.failed(kind)
            raise
        finally:
            if timer is not None:
                timer.cancel()

    async def stream(
        self,
        served: Served,
        inputs: Arrays,
        wanted: Sequence[str] | None = None,
        ask: Ask = NO_ASK,
    ) -> AsyncIterator[Arrays]:
        """Yield the pieces of the model's answer as they come; one, unless it `streams`.

        Raises what `run` raises, also between pieces.
        """
        if not served.streams:
            yield await self.run(served, inputs, wanted, ask)
            return
        loop = asyncio.get_running_loop()
        reply = StreamReply(loop)
        work = self._queue(served, inputs, wanted, ask, reply)
        timer = _at(loop, ask.deadline, reply.leave, DeadlineError(EXPIRED))
        try:
            while (piece := await reply.next()) is not None:
                yield piece
        finally:
            reply.leave()
            served.turns.drop(work)
            if timer is not None:
                timer.cancel()

    def predict(self, name: str, inputs: Mapping[str, Any], origin: Origin) -> Arrays:
        """Return what a model makes of arrays that a source gave; it waits for its turn.

        Raises UnknownModelError, InvalidError, ModelError, or what `on_prediction` raises.
        """
        served = self.find(name)
        arrays = tensors.conform(served.signature, inputs)
        reply = ThreadReply()
        work = served.work(arrays, None, NO_ASK, reply=reply, origin=origin)
        served.turns.put(work, bounded=False)
        return reply.future.result()

    def _queue(
        self,
        served: Served,
        inputs: Arrays,
        wanted: Sequence[str] | None,
        ask: Ask,
        reply: LoopReply | StreamReply,
    ) -> Work:
        try:
            if wanted is not None:
                served.require_outputs(wanted)
            if ask.deadline is not None and ask.deadline <= time.monotonic():
                raise DeadlineError(EXPIRED)
            work = served.work(inputs, wanted, ask, reply=reply)
            served.turns.put(work)
        except turns.REFUSALS as error:
            served.tally.failed(turns.kind_of(error))
            raise
        return work

    def _show(
        self,
        served: Served,
        inputs: Arrays,
        ask: Ask,
        *,
        at: float,
        taken_s: float,
        outputs: Arrays | None = None,
        error: str | None = None,
    ) -> None:
        if self._on_prediction is not None:
            self._on_prediction(
                Prediction(
                    model=served.name,
                    version=served.version,
                    at=at,
                    latency_ms=taken_s * 1000,
                    inputs=inputs,
                    outputs=outputs,
                    error=error,
                    request=ask.request,
                    origin=None,
                    trace=ask.trace,
                    bundle=served.bundle,
                )
            )

    def _queues(self) -> dict[tuple[str, str], int]:
        return {(each.name, each.version): each.turns.waiting for each in self.served}


def _rules(model: Predictor) -> Rules | None:
    batching = model.batching
    if batching is None or model.streams:
        return None
    return Rules(batching.max_size, batching.max_delay_ms / 1000)


def _at(
    loop: asyncio.AbstractEventLoop, deadline: float | None, function: Any, argument: Any
) -> asyncio.TimerHandle | None:
    if deadline is None:
        return None
    return loop.call_later(max(0.0, deadline - time.monotonic()), function, argument)


def _expire(future: "asyncio.Future[Arrays]") -> None:
    if not future.done():
        future.set_exception(DeadlineError(EXPIRED))


def _let_go(waits: Turns, model: Predictor) -> None:
    """Close what nobody can ask any more; called when the last who could lets go of it."""
    waits.close(timeout_s=0.0)
    model.close()
