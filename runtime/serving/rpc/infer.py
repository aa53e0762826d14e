"""ModelInfer and ModelStreamInfer: bytes in, a model's answer out.

Requests come here as bytes, and are parsed here, so that a message that is none gets an error that
says so, and so that what all requests hold in memory together can be bounded.
"""

import contextlib
import time
from collections.abc import AsyncGenerator, AsyncIterator

from google.protobuf.message import DecodeError

from runtime.errors import InvalidError, PackhorseError
from runtime.inference.tensors import Arrays
from runtime.serving.dataplane import MAX_ID_CHARS, DataPlane
from runtime.serving.errors import BusyError
from runtime.serving.protos.open_inference_pb2 import (
    InferParameter,
    ModelInferRequest,
    ModelInferResponse,
    ModelStreamInferResponse,
)
from runtime.serving.rpc import codec, plain, status
from runtime.serving.rpc.caller import NOBODY, Caller
from runtime.serving.rpc.plain import Plain
from runtime.serving.rpc.status import Context
from runtime.serving.served import NO_ASK, Ask, Served

FINAL = "triton_final_response"
WANTS_FINAL = "triton_enable_empty_final_response"
"""Parameters of streams, by the names that their clients know."""
TIMEOUT = "timeout"
"""Parameter of a request: microseconds that the client waits."""


class Infer:
    """Answers with the models of a data plane."""

    def __init__(
        self,
        plane: DataPlane,
        *,
        max_calls: int,
        max_held_bytes: int,
        timeout_s: float | None = None,
    ) -> None:
        """Refuse what goes beyond so many requests at once, or so many bytes of them together.

        `timeout_s` is of requests that say none themselves.
        """
        self._plane, self._timeout_s = plane, timeout_s
        self._max_calls, self._max_held_bytes = max_calls, max_held_bytes
        self._calls = self._held_bytes = 0

    async def unary(self, data: bytes, context: Context, caller: Caller = NOBODY) -> bytes:
        """Answer one request with one answer."""
        started = time.perf_counter()
        self._calls += 1
        self._held_bytes += len(data)
        try:
            self._require_room()
            request = plain.read(data) or parse(data)
            served = self._plane.find(request.model_name, request.model_version or None)
            if served.streams:
                raise InvalidError(
                    "model_name", served.name, "it answers piece by piece: use ModelStreamInfer"
                )
            inputs, wanted = _decode(request, served, started)
            ask = self._ask(request, context, caller)
            if served.fits(inputs):
                outputs = self._plane.run_now(served, inputs, wanted, ask)
            else:
                outputs = await self._plane.run(served, inputs, wanted, ask)
            return _encoded(served, request, outputs)
        except PackhorseError as error:
            return await status.refuse(context, error)
        finally:
            self._calls -= 1
            self._held_bytes -= len(data)

    async def stream(
        self, requests: AsyncIterator[bytes], context: Context, caller: Caller = NOBODY
    ) -> AsyncIterator[bytes]:
        """Answer each request in turn, in pieces where the model gives pieces.

        A request that fails gets an answer that says why; the stream goes on.
        """
        async for data in requests:
            self._calls += 1
            self._held_bytes += len(data)
            try:
                async with contextlib.aclosing(self._pieces(data, context, caller)) as answers:
                    async for answer in answers:
                        yield answer.SerializeToString()
            finally:
                self._calls -= 1
                self._held_bytes -= len(data)

    async def _pieces(
        self, data: bytes, context: Context, caller: Caller
    ) -> AsyncGenerator[ModelStreamInferResponse, None]:
        started = time.perf_counter()
        request = ModelInferRequest()
        try:
            self._require_room()
            request = parse(data)
            served = self._plane.find(request.model_name, request.model_version or None)
            inputs, wanted = _decode(request, served, started)
            ask = self._ask(request, context, caller)
            async for outputs in self._plane.stream(served, inputs, wanted, ask):
                response = _encode(served, request, outputs)
                yield _piece(response, final=not served.streams)
            if served.streams and request.parameters[WANTS_FINAL].bool_param:
                end = ModelInferResponse(
                    model_name=served.name, model_version=served.version, id=request.id
                )
                yield _piece(end, final=True)
        except PackhorseError as error:
            status.of(error)
            yield ModelStreamInferResponse(
                error_message=str(error), infer_response=ModelInferResponse(id=request.id)
            )

    def _ask(self, request: ModelInferRequest | Plain, context: Context, caller: Caller) -> Ask:
        # The stubs forget that a call may have no deadline.
        left: float | None = context.time_remaining()
        if request.parameters and TIMEOUT in request.parameters:
            said = _seconds(request.parameters[TIMEOUT])
            left = min((each for each in (left, said) if each is not None), default=None)
        if left is None:
            left = self._timeout_s
        asked = request.id or caller.request
        if left is None and not asked and caller.trace is None:
            return NO_ASK
        deadline = None if left is None else time.monotonic() + left
        return Ask(request=asked or None, deadline=deadline, trace=caller.trace)

    def _require_room(self) -> None:
        if self._calls > self._max_calls:
            raise BusyError(f"{self._max_calls} requests are here already: try again later")
        if self._held_bytes > self._max_held_bytes:
            raise BusyError("requests in memory are too large together: try again later")


def parse(data: bytes) -> ModelInferRequest:
    """Return a request; raise InvalidError for bytes that are none, or an id that is too long."""
    try:
        request = ModelInferRequest.FromString(data)
    except DecodeError as error:
        raise InvalidError("request", data[:40], f"send a ModelInferRequest: {error}") from error
    if len(request.id) > MAX_ID_CHARS:
        raise InvalidError("id", request.id, f"use at most {MAX_ID_CHARS} characters")
    return request


def _decode(
    request: ModelInferRequest | Plain, served: Served, started: float
) -> tuple[Arrays, list[str] | None]:
    try:
        decoded: tuple[Arrays, list[str] | None]
        if isinstance(request, Plain):
            decoded = plain.decode(request, served.specs), None
        else:
            decoded = codec.decode(request, served.specs), codec.wanted(request)
    except InvalidError:
        served.tally.failed("invalid")
        raise
    served.tally.decode.observe(time.perf_counter() - started)
    return decoded


def _encoded(served: Served, request: ModelInferRequest | Plain, outputs: Arrays) -> bytes:
    if not isinstance(request, Plain):
        return _encode(served, request, outputs).SerializeToString()
    started = time.perf_counter()
    answer = plain.encode(served.name, served.version, request, outputs)
    served.tally.encode.observe(time.perf_counter() - started)
    return answer


def _encode(served: Served, request: ModelInferRequest, outputs: Arrays) -> ModelInferResponse:
    started = time.perf_counter()
    response = codec.encode(served.name, served.version, request, outputs)
    served.tally.encode.observe(time.perf_counter() - started)
    return response


def _seconds(parameter: InferParameter) -> float | None:
    """Return a time in seconds, None for 0; raise InvalidError unless it is whole microseconds."""
    kind = parameter.WhichOneof("parameter_choice")
    value = getattr(parameter, kind) if kind in {"int64_param", "uint64_param"} else None
    if value is None or value < 0:
        fix = "send microseconds as int64_param, 0 for none"
        raise InvalidError("parameters.timeout", value, fix)
    return float(value) / 1e6 or None


def _piece(response: ModelInferResponse, *, final: bool) -> ModelStreamInferResponse:
    response.parameters[FINAL].bool_param = final
    return ModelStreamInferResponse(infer_response=response)
