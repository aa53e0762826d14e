"""The access log: one line for a request, or for a share of them.

INFO runtime.serving.access: request method=POST path=/v2/models/m/infer status=200 ms=0.41 …
"""

import logging
import time
from collections.abc import Coroutine
from typing import Any

from runtime.serving.wire.answers import Answer
from runtime.serving.wire.app import App, Reply
from runtime.serving.wire.bodies import Body
from runtime.serving.wire.head import Head

log = logging.getLogger(__name__)

FAILED = 500
MAX_SHOWN = 200


class Logged:
    """An app whose answers are logged; those that say that the server failed, always."""

    def __init__(self, app: App, share: float) -> None:
        """Log this share of the requests, evenly: of 0.01 every hundredth."""
        self._app, self._share = app, share
        self._due = 0.0
        self.place = app.place

    def admit(self, head: Head) -> Answer | None:
        """Return the app's refusal, logged."""
        refusal = self._app.admit(head)
        if refusal is not None:
            self._log(head, refusal, time.perf_counter(), 0)
        return refusal

    def answer(self, head: Head, body: bytes | Body) -> Reply | Coroutine[Any, Any, Reply]:
        """Return the app's answer, logged once it is there."""
        began = time.perf_counter()
        size = len(body) if isinstance(body, bytes) else len(body.view)
        reply = self._app.answer(head, body)
        if isinstance(reply, Coroutine):
            return self._later(head, reply, began, size)
        self._log(head, reply, began, size)
        return reply

    async def _later(
        self, head: Head, reply: Coroutine[Any, Any, Reply], began: float, size: int
    ) -> Reply:
        answered = await reply
        self._log(head, answered, began, size)
        return answered

    def _log(self, head: Head, reply: Reply, began: float, size: int) -> None:
        self._due += self._share
        if self._due < 1 and reply.status < FAILED:
            return
        self._due %= 1
        route = head.route
        given = head.fields.get(b"x-request-id")
        facts = {
            "method": head.method,
            "path": head.target[:MAX_SHOWN].decode("latin-1"),
            "status": reply.status,
            "ms": round((time.perf_counter() - began) * 1000, 3),
            "bytes_in": size,
            "bytes_out": reply.size if isinstance(reply, Answer) else None,
            "model": None if route is None else route[1].place.name,
            "request": None if given is None else given[:MAX_SHOWN].decode("latin-1"),
        }
        log.info("request", extra={k: v for k, v in facts.items() if v is not None})
