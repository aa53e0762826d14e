"""Where a worker's predictions meet the candidate beside it, if there is one just now."""

from collections.abc import Callable, Sequence

import numpy as np

from edge_agent.worker import protocol
from edge_agent.worker.capture import Recorder
from edge_agent.worker.mirroring import Mirroring
from runtime.candidates import Counts, Mode
from runtime.clock import Clock
from runtime.inference.tensors import Arrays
from runtime.serving.capture import Maker
from runtime.serving.dataplane import DataPlane
from runtime.serving.rest.infer import Infer
from runtime.serving.served import Ask, Origin, Prediction, Served

COMPARED = Origin(source="", item="", position=None)
"""Of predictions that are made to compare: nobody asked for them, and none is recorded."""


class Shadow:
    """Stands between the data plane and the recorder."""

    def __init__(
        self, module: str, recorder: Recorder, clock: Clock, tell: Callable[[Counts], None]
    ) -> None:
        """Mirror nothing yet; `tell` may be called from any thread."""
        self._module, self._recorder, self._clock, self._tell = module, recorder, clock, tell
        self._plane: DataPlane | None = None
        self._infer: Infer | None = None
        self._now: Mirroring | None = None
        self._maker: Maker | None = None
        self._own_ms = 0.0

    def attach(self, plane: DataPlane, infer: Infer) -> None:
        """Say whose predictions are seen, and who takes requests."""
        self._plane, self._infer = plane, infer

    def obey(self, order: protocol.Mirror | protocol.StopMirror) -> None:
        """Mirror by this order from now on, or stop; the event loop's."""
        self.end()
        if isinstance(order, protocol.StopMirror):
            return
        candidate = order.candidate
        self._maker = Maker(self._module, candidate.bundle, candidate.model, candidate.version)
        self._now = Mirroring(order, ask_own=self._ask_own, tell=self._tell)
        if self._infer is not None and candidate.mode is Mode.CANARY:
            self._infer.detour = self._detour

    def end(self) -> None:
        """Mirror nothing more; the event loop's."""
        if self._infer is not None:
            self._infer.detour = None
        if self._now is not None:
            self._now.stop()
        self._now = None

    def saw(self, prediction: Prediction) -> None:
        """Record a prediction, then have it mirrored; raise what the recorder raises."""
        if prediction.origin is COMPARED:
            self._own_ms = prediction.latency_ms
            return
        self._recorder.saw(prediction)
        now, outputs = self._now, prediction.outputs
        if now is None or outputs is None:
            return
        inputs = prediction.inputs
        if prediction.origin is not None:
            # A source may use its arrays again.
            inputs = {name: np.array(array) for name, array in inputs.items()}
        now.offer(inputs, outputs, prediction.latency_ms)

    async def _detour(
        self, served: Served, inputs: Arrays, wanted: Sequence[str] | None, ask: Ask
    ) -> tuple[Served, Arrays] | None:
        now, maker = self._now, self._maker
        if now is None or maker is None or served.streams:
            return None
        at = self._clock.now()
        given = await now.serve(inputs, wanted, ask.deadline)
        if given is None:
            return None
        prediction = Prediction(
            model=served.name,
            version=str(maker.version),
            at=at,
            latency_ms=given.taken_ms,
            inputs=inputs,
            outputs=given.outputs,
            error=None,
            request=ask.request,
            origin=None,
            trace=ask.trace,
            bundle=maker.bundle,
        )
        self._recorder.saw(prediction, maker)
        return served.as_version(prediction.version), given.outputs

    def _ask_own(self, inputs: Arrays) -> tuple[Arrays, float]:
        """Return the own model's answer for a comparison; the mirror's thread alone asks."""
        assert self._plane is not None
        outputs = self._plane.predict(self._module, inputs, COMPARED)
        return outputs, self._own_ms
