"""The Open Inference Protocol v2, once, whatever carries it.

Transports decode a request into the structs below, call a DataPlane, and encode what it returns or
raises. Every prediction that reaches a model, good or bad, is shown to `on_prediction` before its
answer leaves; a request that is refused before (InvalidError, UnknownModelError, BusyError) is not.
"""

import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from runtime.bundle.index import Signature, TensorSpec
from runtime.clock import Clock
from runtime.errors import InvalidError, ModelError
from runtime.inference import tensors
from runtime.inference.tensors import Arrays
from runtime.serving.errors import UnknownModelError
from runtime.serving.lane import Lane

SERVER_NAME = "packhorse"
PLATFORM = "onnxruntime_onnx"
"""Triton's name for what runs ONNX files here."""
MAX_ID_CHARS = 256


class Predictor(Protocol):
    """What can be served; runtime.inference.model.Model is one."""

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        ...

    @property
    def callers(self) -> int:
        """How many may call `predict` at once."""
        ...

    @property
    def output_names(self) -> tuple[str, ...] | None:
        """What may be asked for; None: only known once it ran."""
        ...

    def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        """Return the named outputs, or all; raise ModelError, or InvalidError for a name."""
        ...


class OutputRequest(msgspec.Struct, frozen=True):
    """One output that a client wants."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct, frozen=True):
    """What a client asks; parameters are taken and have no meaning here."""

    inputs: list[tensors.TensorIn]
    id: str | None = None
    outputs: list[OutputRequest] | None = None
    parameters: dict[str, Any] = {}


class InferResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer."""

    model_name: str
    model_version: str
    outputs: list[tensors.TensorOut]
    id: str | None = None
    """That of the request, if it had one."""


class ServerMetadata(msgspec.Struct, frozen=True):
    """What this server is."""

    name: str
    version: str
    extensions: tuple[str, ...]


class ModelMetadata(msgspec.Struct, frozen=True):
    """What a model takes and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class Origin:
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


@dataclass(frozen=True)
class _Served:
    name: str
    version: str
    model: Predictor
    specs: Mapping[str, TensorSpec]
    lane: Lane


class DataPlane:
    """Models by name and version, and how to ask them."""

    def __init__(
        self, *, on_prediction: Callable[[Prediction], None], clock: Clock, queue_limit: int = 256
    ) -> None:
        """Make an empty one.

        `on_prediction` is called in the model's thread. What it raises reaches whoever asked, in
        place of the answer.
        """
        self._on_prediction, self._clock, self._queue_limit = on_prediction, clock, queue_limit
        self._models: dict[str, dict[str, _Served]] = {}

    def add(self, name: str, version: str, model: Predictor) -> None:
        """Serve a model; its name alone means the version added last."""
        lane = Lane(name, threads=model.callers, queue_limit=self._queue_limit)
        self._models.setdefault(name, {})[version] = _Served(
            name=name,
            version=version,
            model=model,
            specs={spec.name: spec for spec in model.signature.inputs},
            lane=lane,
        )

    def close(self, timeout_s: float = 5.0) -> None:
        """End the models' threads once what waits is done."""
        for versions in self._models.values():
            for served in versions.values():
                served.lane.close(timeout_s)

    @property
    def ready(self) -> bool:
        """Say whether there is anything to ask."""
        return bool(self._models)

    def model_ready(self, name: str, version: str | None = None) -> bool:
        """Say whether a model may be asked; raise UnknownModelError if there is none."""
        self._find(name, version)
        return True

    def metadata(self) -> ServerMetadata:
        """Return what this server is."""
        return ServerMetadata(
            name=SERVER_NAME, version=importlib.metadata.version("packhorse"), extensions=()
        )

    def model_metadata(self, name: str, version: str | None = None) -> ModelMetadata:
        """Return what a model takes and gives; raise UnknownModelError if there is none."""
        served = self._find(name, version)
        signature = served.model.signature
        return ModelMetadata(
            name=name,
            versions=tuple(self._models[name]) if version is None else (version,),
            platform=PLATFORM,
            inputs=signature.inputs,
            outputs=signature.outputs,
        )

    async def infer(self, name: str, version: str | None, request: InferRequest) -> InferResponse:
        """Return the model's answer.

        Raises UnknownModelError, InvalidError (the request's fault), ModelError (the model's fault)
        or BusyError (too many wait).
        """
        served = self._find(name, version)
        return await served.lane.call(lambda: self._answer(served, request))

    def predict(self, name: str, inputs: Mapping[str, Any], origin: Origin) -> Arrays:
        """Return what a model makes of arrays that a source gave; it waits for its turn.

        Raises UnknownModelError, InvalidError, ModelError, or what `on_prediction` raises.
        """
        served = self._find(name, None)
        arrays = tensors.conform(served.model.signature, inputs)
        return served.lane.wait_for(lambda: self._run(served, arrays, None, None, origin))

    def _answer(self, served: _Served, request: InferRequest) -> InferResponse:
        if request.id is not None and len(request.id) > MAX_ID_CHARS:
            raise InvalidError("id", request.id, f"use at most {MAX_ID_CHARS} characters")
        tensors.require_names([tensor.name for tensor in request.inputs], served.specs)
        inputs = {
            tensor.name: tensors.decode(tensor, served.specs[tensor.name])
            for tensor in request.inputs
        }
        outputs = self._run(served, inputs, _wanted(served, request), request.id, None)
        return InferResponse(
            model_name=served.name,
            model_version=served.version,
            outputs=[tensors.encode(name, array) for name, array in outputs.items()],
            id=request.id,
        )

    def _run(
        self,
        served: _Served,
        inputs: Arrays,
        wanted: Sequence[str] | None,
        request: str | None,
        origin: Origin | None,
    ) -> Arrays:
        at = self._clock.now()
        started = time.perf_counter()
        outputs: Arrays | None = None
        failure: ModelError | None = None
        try:
            outputs = served.model.predict(inputs, wanted)
        except ModelError as error:
            failure = error
        self._on_prediction(
            Prediction(
                model=served.name,
                version=served.version,
                at=at,
                latency_ms=(time.perf_counter() - started) * 1000,
                inputs=inputs,
                outputs=outputs,
                error=None if failure is None else str(failure),
                request=request,
                origin=origin,
            )
        )
        if failure is not None:
            raise failure
        assert outputs is not None
        return outputs

    def _find(self, name: str, version: str | None) -> _Served:
        versions = self._models.get(name, {})
        served = next(reversed(versions.values()), None) if version is None else None
        served = served or versions.get(version or "")
        if served is None:
            known = [f"{name} version {v}" for name, vs in self._models.items() for v in vs]
            raise UnknownModelError(name, version, known)
        return served


def _wanted(served: _Served, request: InferRequest) -> list[str] | None:
    """Return the outputs asked for; raise InvalidError for one that the model does not give."""
    if not request.outputs:
        return None
    names = [output.name for output in request.outputs]
    known = served.model.output_names
    for name in names:
        if known is not None and name not in known:
            raise InvalidError("outputs", name, f"the model gives {', '.join(known)}")
    return names
