"""What stands between the transports and the models: values, and what a model must offer."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import msgspec

from runtime.bundle.index import Batching, Signature, TensorSpec
from runtime.errors import InvalidError
from runtime.inference.tensors import Arrays
from runtime.serving.measuring import Measured
from runtime.serving.metrics import Tally
from runtime.serving.replies import Reply
from runtime.serving.turns import Turns, Work


class Predictor(Protocol):
    """What can be served; runtime.inference.model.Model is one."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    @property
    def callers(self) -> int:
        """How many may call `predict` at once, each in a thread of its own."""
        ...

    @property
    def inline(self) -> bool:
        """Say whether `predict` only computes: then any thread may call it, at any time."""
        ...

    @property
    def streams(self) -> bool:
        """Say whether it answers piece by piece."""
        ...

    @property
    def batching(self) -> Batching | None:
        """How requests may be put together; None: not."""
        ...

    @property
    def platform(self) -> str:
        """What it is, as the protocol's metadata calls it."""
        ...

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """What may be asked for; None: only known once it ran."""
        ...

    def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Return the named outputs, or all; raise ModelError, or InvalidError for a name."""
        ...

    def stream(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Iterator[Arrays]:
        """Yield the pieces of an answer; one piece if it does not stream."""
        ...

    def close(self) -> None:
        """Let go of what it holds; what runs meanwhile fails with ModelError."""
        ...


class Ask(msgspec.Struct, frozen=True):
    """What is known of a request beside its arrays."""

    request: str | None = None
    """The client's id."""
    deadline: float | None = None
    """time.monotonic() after which nobody waits for the answer."""
    trace: str | None = None
    """W3C traceparent of the client, validated by runtime.serving.tracing."""


NO_ASK = Ask()


class Origin(msgspec.Struct, frozen=True):
    """Where the input of a prediction came from, when it was no request."""

    source: str
    item: str
    position: str | None


class Prediction(msgspec.Struct, frozen=True):
    """One run of a model."""

    model: str
    version: str
    at: float
    """When it began, seconds since 1970."""
    latency_ms: float
    """In the model alone, without waiting for its turn."""
    inputs: Arrays
    outputs: Arrays | None
    """None: it failed."""
    error: str | None
    request: str | None
    origin: Origin | None
    trace: str | None = None
    bundle: str = ""
    """Digest of the bundle, where it is known."""


OnPrediction = Callable[[Prediction], None]


class Served:
    """One model version that can be asked. Whoever holds it may ask it, also once it is replaced.

    It is closed when nobody holds it: do not keep one over `DataPlane.changes`.
    """

    __slots__ = (
        "__weakref__",
        "bundle",
        "model",
        "name",
        "output_names",
        "outputs",
        "platform",
        "predict",
        "quick",
        "quick_elements",
        "signature",
        "specs",
        "streams",
        "tally",
        "turns",
        "version",
    )

    def __init__(
        self,
        name: str,
        version: str,
        model: Predictor,
        *,
        measured: Measured,
        turns: Turns,
        tally: Tally,
        bundle: str,
    ) -> None:
        self.name, self.version, self.model, self.bundle = name, version, model, bundle
        self.signature: Signature = model.signature
        self.specs: Mapping[str, TensorSpec] = {spec.name: spec for spec in self.signature.inputs}
        """Inputs by name."""
        self.outputs: Mapping[str, TensorSpec] = {s.name: s for s in self.signature.outputs}
        self.output_names = model.output_names
        """What may be asked for; None: only known once it ran."""
        self.quick = model.inline and measured.quick_elements > 0 and not waits(model.batching)
        """Measured to be so fast that it may run in the event loop, for inputs that `fits`."""
        self.quick_elements = measured.quick_elements if self.quick else 0
        self.streams, self.platform = model.streams, model.platform
        self.predict = model.predict
        self.turns, self.tally = turns, tally
        """`tally` is the event loop's; the model's own threads have another."""

    def as_version(self, version: str) -> "Served":
        """Return the same, called by another version: for an answer that another one gave."""
        named = copy.copy(self)
        named.version = version
        return named

    def fits(self, inputs: Arrays) -> bool:
        """Say whether inputs are small enough for `DataPlane.run_now`."""
        most = self.quick_elements
        for array in inputs.values():
            most -= array.size
        return most >= 0 and self.quick

    def require_outputs(self, wanted: Sequence[str]) -> None:
        """Raise InvalidError for an output that the model does not give, as far as is known."""
        known = self.output_names
        if known is None:
            return
        for name in wanted:
            if name not in known:
                raise InvalidError("outputs", name, f"the model gives {', '.join(known)}")

    def work(
        self,
        inputs: Arrays,
        wanted: Sequence[str] | None,
        ask: Ask,
        *,
        reply: Reply,
        origin: Origin | None = None,
    ) -> Work:
        """Return a request as the queue takes it."""
        wanted = None if wanted is None else list(wanted)
        if self.model.batching is None:
            return Work(inputs, wanted, ask, reply, origin=origin)
        rows = {array.shape[0] for array in inputs.values()}
        # Inputs that disagree about their rows are the model's to refuse, alone.
        alone = object() if len(rows) != 1 else None
        key = alone or tuple((name, inputs[name].shape[1:]) for name in self.specs)
        return Work(inputs, wanted, ask, reply, origin=origin, rows=max(rows, default=1), key=key)


def waits(batching: Batching | None) -> bool:
    """Say whether requests may be held back for others."""
    return batching is not None and batching.max_delay_ms > 0
