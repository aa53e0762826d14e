"""The Open Inference Protocol v2 over HTTP: a bare ASGI app, since a framework costs more than it.

    GET  /v2                                              what this server is
    GET  /v2/health/live, /v2/health/ready
    GET  /v2/models/{name}[/versions/{version}][/ready]
    POST /v2/models/{name}[/versions/{version}]/infer     tensors in JSON

Every error is {"error": "…"}: 400 for a request that is wrong, 404 for what is not here, 405, 413
and 415 for what is not taken, 429 when too many wait, 500 when the model fails.
"""

import http
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from runtime.errors import InvalidError, ModelError, PackhorseError
from runtime.inference import tensors
from runtime.serving.dataplane import MAX_ID_CHARS, DataPlane
from runtime.serving.errors import BusyError, DeadlineError, NotReadyError, UnknownModelError
from runtime.serving.served import Ask

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_HELD_BYTES = 2 * MAX_BODY_BYTES
"""Of all bodies in memory together; past it, requests are told to come again."""

STATUS: dict[type[PackhorseError], http.HTTPStatus] = {
    InvalidError: http.HTTPStatus.BAD_REQUEST,
    UnknownModelError: http.HTTPStatus.NOT_FOUND,
    BusyError: http.HTTPStatus.TOO_MANY_REQUESTS,
    ModelError: http.HTTPStatus.INTERNAL_SERVER_ERROR,
    NotReadyError: http.HTTPStatus.SERVICE_UNAVAILABLE,
    DeadlineError: http.HTTPStatus.GATEWAY_TIMEOUT,
}
_READ = ("GET", "HEAD")


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


_DECODER = msgspec.json.Decoder(InferRequest)
_ENCODER = msgspec.json.Encoder()


class _RefusedError(Exception):
    """A request that gets no further than HTTP."""

    def __init__(self, status: http.HTTPStatus, text: str, headers: Headers | None = None) -> None:
        super().__init__(text)
        self.status, self.headers = status, headers or []


class _GoneError(Exception):
    """The client went away."""


class Rest:
    """The ASGI app."""

    def __init__(
        self,
        plane: DataPlane,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        self._plane = plane
        self._max_body_bytes, self._max_held_bytes = max_body_bytes, max_held_bytes
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http"
        headers: Headers = []
        try:
            status, body = await self._route(scope, receive)
        except _GoneError:
            return
        except _RefusedError as refused:
            status, body, headers = refused.status, _error(str(refused)), refused.headers
        except PackhorseError as error:
            status, body = _status_of(error), _error(str(error))
        except MemoryError:
            log.exception("out of memory", extra={"path": scope["path"]})
            status, body = http.HTTPStatus.SERVICE_UNAVAILABLE, _error("out of memory: send less")
        await send(
            {
                "type": "http.response.start",
                "status": int(status),
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                    *headers,
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})

    async def _route(self, scope: Scope, receive: Receive) -> tuple[http.HTTPStatus, bytes]:
        path = scope["path"].rstrip("/").split("/")[1:]
        match path:
            case ["v2", "models", name, "infer"]:
                return await self._infer(name, None, scope, receive)
            case ["v2", "models", name, "versions", version, "infer"]:
                return await self._infer(name, version, scope, receive)
        status, answer = self._read(path)
        _require(scope, _READ)
        return status, _ENCODER.encode(answer)

    def _read(self, path: list[str]) -> tuple[http.HTTPStatus, Any]:
        plane = self._plane
        answer: Any
        match path:
            case ["v2"]:
                answer = plane.metadata()
            case ["v2", "health", "live"]:
                answer = {"live": True}
            case ["v2", "health", "ready"]:
                status = http.HTTPStatus.OK if plane.ready else http.HTTPStatus.SERVICE_UNAVAILABLE
                return status, {"live": True, "ready": plane.ready}
            case ["v2", "models", name, "ready"]:
                answer = {"name": name, "ready": plane.model_ready(name)}
            case ["v2", "models", name, "versions", version, "ready"]:
                answer = {"name": name, "ready": plane.model_ready(name, version)}
            case ["v2", "models", name]:
                answer = plane.model_metadata(name)
            case ["v2", "models", name, "versions", version]:
                answer = plane.model_metadata(name, version)
            case _:
                raise _RefusedError(
                    http.HTTPStatus.NOT_FOUND, f"no /{'/'.join(path)[:200]} here: start at /v2"
                )
        return http.HTTPStatus.OK, answer

    async def _infer(
        self, name: str, version: str | None, scope: Scope, receive: Receive
    ) -> tuple[http.HTTPStatus, bytes]:
        _require(scope, ("POST",))
        self._plane.model_ready(name, version)
        body = bytearray()
        try:
            await self._read_body(body, scope, receive)
            request = _decode(body)
            answer = await self._answer(name, version, request)
        finally:
            self._held_bytes -= len(body)
        return http.HTTPStatus.OK, _ENCODER.encode(answer)

    async def _answer(self, name: str, version: str | None, request: InferRequest) -> InferResponse:
        served = self._plane.find(name, version)
        if request.id is not None and len(request.id) > MAX_ID_CHARS:
            raise InvalidError("id", request.id, f"use at most {MAX_ID_CHARS} characters")
        tensors.require_names([tensor.name for tensor in request.inputs], served.specs)
        inputs = {
            tensor.name: tensors.decode(tensor, served.specs[tensor.name])
            for tensor in request.inputs
        }
        wanted = [output.name for output in request.outputs] if request.outputs else None
        outputs = await self._plane.run(served, inputs, wanted, Ask(request=request.id))
        return InferResponse(
            model_name=served.name,
            model_version=served.version,
            outputs=[tensors.encode(name, array) for name, array in outputs.items()],
            id=request.id,
        )

    async def _read_body(self, body: bytearray, scope: Scope, receive: Receive) -> None:
        """Append the body; what is appended counts as held until the request is done."""
        _require_headers(scope["headers"], self._max_body_bytes)
        more = True
        while more:
            event = await receive()
            if event["type"] == "http.disconnect":
                raise _GoneError
            chunk, more = event.get("body", b""), event.get("more_body", False)
            if len(body) + len(chunk) > self._max_body_bytes:
                raise _too_large(self._max_body_bytes)
            if self._held_bytes + len(chunk) > self._max_held_bytes:
                raise BusyError("requests in memory are too large together: try again later")
            body += chunk
            self._held_bytes += len(chunk)


def _require(scope: Scope, methods: tuple[str, ...]) -> None:
    if scope["method"] not in methods:
        raise _RefusedError(
            http.HTTPStatus.METHOD_NOT_ALLOWED,
            f"{scope['method']} is not for this path: use {methods[0]}",
            [(b"allow", ", ".join(methods).encode())],
        )


def _require_headers(headers: Headers, max_body_bytes: int) -> None:
    for name, value in headers:
        if name == b"content-length" and int(value) > max_body_bytes:
            raise _too_large(max_body_bytes)
        if name == b"inference-header-content-length":
            raise _RefusedError(
                http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
                "binary tensors are not taken: send `data` in JSON"
                " (tritonclient: set_data_from_numpy(…, binary_data=False))",
            )
        if name == b"content-encoding" and value.lower() != b"identity":
            raise _RefusedError(
                http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send the body without Content-Encoding"
            )


def _too_large(most: int) -> _RefusedError:
    return _RefusedError(
        http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is too large: send at most {most}"
    )


def _decode(body: bytearray) -> InferRequest:
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _RefusedError(http.HTTPStatus.BAD_REQUEST, f"request: {error}") from error
    except RecursionError as error:
        raise _RefusedError(http.HTTPStatus.BAD_REQUEST, "request: nested too deeply") from error


def _status_of(error: PackhorseError) -> http.HTTPStatus:
    for kind, status in STATUS.items():
        if isinstance(error, kind):
            return status
    log.error("unforeseen error", exc_info=error)
    return http.HTTPStatus.INTERNAL_SERVER_ERROR


def _error(text: str) -> bytes:
    return _ENCODER.encode({"error": text})
