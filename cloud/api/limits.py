"""No request body is read beyond its limit, and none is waited for without end."""

from collections.abc import Callable

import anyio
from fastapi import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cloud.api import errors
from cloud.errors import TooLargeError

BODY_IDLE_S = 60.0
"""A client that has begun a body and sends nothing of it for so long is given up."""


class BodyLimit:
    """Middleware: answers 413 as soon as a body is, or says that it will be, too large.

    And 408 when a body does not come.
    """

    def __init__(self, app: ASGIApp, limit_of: Callable[[str], int]) -> None:
        """`limit_of` tells the limit in bytes for a path."""
        self._app, self._limit_of = app, limit_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting what comes in."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._limit_of(scope["path"])
        if _announced(scope) > limit:
            await errors.of_error(TooLargeError(limit))(scope, receive, send)
            return
        await self._app(scope, _Counter(receive, limit), send)


class _Counter:
    """Receives on behalf of the application."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive, self._left, self._limit = receive, limit, limit
        self._whole = False

    async def __call__(self) -> Message:
        try:
            # Behind the body comes only the client's leaving, which may take its time.
            with anyio.fail_after(None if self._whole else BODY_IDLE_S):
                message = await self._receive()
        except TimeoutError:
            raise HTTPException(408, "body: it did not come in time") from None
        self._whole = not message.get("more_body", False)
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            # The one exception that FastAPI lets through while it reads a body.
            raise HTTPException(413, str(TooLargeError(self._limit)))
        return message


def _announced(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0
