"""A request's body, read whole before it is sent on, so that it can be sent again.

Bounded three times: each body by the configuration, all of them together, and the time it may take
to come.
"""

import asyncio
import http

from aiohttp import web
from aiohttp.client_exceptions import ClientPayloadError
from aiohttp.web_protocol import RequestPayloadError

from runtime.gateway.errors import LateError, RefusedError

HELD_BYTES = 512 * 1024 * 1024
"""Of all bodies in memory together; at least one of the largest allowed always fits."""


class Bodies:
    """The bodies of all requests in hand."""

    def __init__(self, most_held: int = HELD_BYTES) -> None:
        self._most_held = most_held
        self.held = 0
        """Bytes in memory."""

    async def read(self, request: web.BaseRequest, most: int, timeout_s: float) -> bytes:
        """Return the body, which counts as held until `release`. Raises RefusedError."""
        if not request.can_read_body:
            return b""
        length = request.content_length
        if length is not None and length > most:
            raise _too_large(most)
        if request.content.is_eof():
            return self._hold(request.content.read_nowait(), 0, most)
        await _continue(request)
        loop = asyncio.get_running_loop()
        late = LateError("the body does not come")
        timer = loop.call_later(timeout_s, request.content.set_exception, late)
        try:
            return await self._collect(request, most)
        except LateError as error:
            raise RefusedError(
                http.HTTPStatus.REQUEST_TIMEOUT, f"the body did not come in {timeout_s:g} s"
            ) from error
        except (RequestPayloadError, ClientPayloadError) as error:
            raise RefusedError(http.HTTPStatus.BAD_REQUEST, f"body: {error}") from error
        finally:
            timer.cancel()

    def release(self, body: bytes) -> None:
        """Count a body that was returned as held no longer."""
        self.held -= len(body)

    async def _collect(self, request: web.BaseRequest, most: int) -> bytes:
        pieces: list[bytes] = []
        size = 0
        try:
            while piece := await request.content.readany():
                pieces.append(self._hold(piece, size, most))
                size += len(piece)
        except BaseException:
            self.held -= size
            raise
        return b"".join(pieces)

    def _hold(self, piece: bytes, size: int, most: int) -> bytes:
        if size + len(piece) > most:
            raise _too_large(most)
        if self.held and self.held + len(piece) > self._most_held:
            raise RefusedError(
                http.HTTPStatus.SERVICE_UNAVAILABLE,
                "the requests in hand are too large together: come again",
                retry_after_s=1.0,
            )
        self.held += len(piece)
        return piece


def _too_large(most: int) -> RefusedError:
    return RefusedError(
        http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the body is too large: send at most {most}"
    )


async def _continue(request: web.BaseRequest) -> None:
    """Tell a client that waits for it to send its body."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
