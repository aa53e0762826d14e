"""The inference server's HTTP: the Open Inference Protocol v2 whole, and what stands beside it.

    GET  /v2                                                    what this server is
    GET  /v2/health/live, /v2/health/ready
    GET  /v2/models/{name}[/versions/{version}][/ready]
    POST /v2/models/{name}[/versions/{version}]/infer           JSON, and the binary extension
    GET  /v2/models/{name}[/versions/{version}]/config, /stats  as Triton has them; /v2/models/stats
    POST /v2/repository/index, /v2/repository/models/{name}/load, /unload
    POST /score, /v2/models/{name}[/versions/{version}]/score   tables, for those without tensors
    GET  /openapi.json, /v2/models/{name}[/versions/{version}]/openapi.json, /docs
    GET  /metrics

Every error is {"error": "…"}: 400 for a request that is wrong, 401 without the key, 404 for what is
not here, 405, 408, 413, 415 and 431 for what is not taken, 429 when too many wait, 500 when the
model fails, 503 when it is not ready, 504 when the client's time is up.
"""

import hmac
import http
from collections.abc import Callable, Coroutine
from typing import Any

from runtime.errors import PackhorseError
from runtime.serving.dataplane import DataPlane
from runtime.serving.rest import routes, status
from runtime.serving.rest.changes import Changes, Repository
from runtime.serving.rest.described import Descriptions, Shelf
from runtime.serving.rest.infer import Codec, Infer
from runtime.serving.rest.known import Known
from runtime.serving.rest.pages import Pages
from runtime.serving.rest.reads import Reads
from runtime.serving.rest.scores import Scores
from runtime.serving.wire.answers import Answer
from runtime.serving.wire.app import Reply
from runtime.serving.wire.bodies import Body, HeapBody
from runtime.serving.wire.errors import RefusedError
from runtime.serving.wire.head import Head
from runtime.serving.wire.limits import MIB

Handler = Callable[[Known, bytes | Body], Reply | Coroutine[Any, Any, Reply]]

OPEN = frozenset({"live", "server_ready", "docs"})
"""What may be asked without the key: a container's health check has none, nor has a browser at
first; the page says nothing of the models by itself."""
CHANGES = frozenset({"load", "unload"})


class Rest:
    """The app."""

    def __init__(
        self,
        plane: DataPlane,
        *,
        codec: Codec | None = None,
        repository: Repository | None = None,
        shelf: Shelf | None = None,
        api_key: str | None = None,
        max_body_bytes: int = 64 * MIB,
        timeout_s: float | None = None,
        place: Callable[[int], Body] | None = None,
    ) -> None:
        """Answer for a data plane.

        Without a `repository` models are not loaded and unloaded over HTTP; with an `api_key`
        requests must bring it. `shelf` is where more is known of the models, `timeout_s` how long
        a request may take that says nothing of that, and `place` makes room for JSON that the
        `codec` will read.
        """
        self._plane = plane
        self._place = place or HeapBody
        self._key = None if api_key is None else f"Bearer {api_key}".encode()
        self.infer = infer = Infer(plane, codec, max_body_bytes=max_body_bytes)
        described = Descriptions(plane, shelf)
        scores = Scores(plane, described, max_body_bytes=max_body_bytes)
        changes = Changes(plane, repository)
        pages = Pages(plane, described, keyed=api_key is not None)
        self._timeout_s = timeout_s
        self._handlers: dict[str, Handler] = {
            **Reads(plane).handlers,
            "infer": infer.ask,
            "score": scores.score,
            "openapi": pages.openapi,
            "docs": pages.docs,
            "repository_index": changes.index,
            "load": changes.load,
            "unload": changes.unload,
        }

    def admit(self, head: Head) -> Answer | None:
        """Return why a request is refused before its body, or None."""
        return self._refused(head)

    def place(self, head: Head) -> Body:
        """Return room for a large body: JSON where the codec sees it, tensors where they align."""
        known: Known = head.route[1]
        if known.json_bytes is None and known.coding is None and known.place.kind == "infer":
            return self._place(head.length)
        return HeapBody(head.length, aligned=known.json_bytes or 0)

    def answer(self, head: Head, body: bytes | Body) -> Reply | Coroutine[Any, Any, Reply]:
        """Return the answer to a whole request, or what will give it."""
        if head.route is None and (refusal := self._refused(head)) is not None:
            return refusal
        handler, known = head.route
        try:
            reply = handler(known, body)
        except Exception as error:  # noqa: BLE001 - the outermost loop of a request
            return status.failed(error, known.fields)
        return reply if type(reply) is Answer else self._guarded(reply, known)

    async def _guarded(self, reply: Any, known: Known) -> Reply:
        try:
            answered: Reply = await reply
        except Exception as error:  # noqa: BLE001 - the outermost loop of a request
            return status.failed(error, known.fields)
        return answered

    def _refused(self, head: Head) -> Answer | None:
        """Return why a head is refused; if it is not, note who answers it."""
        if head.route is not None:
            return None
        try:
            place = routes.find(head.method, head.target)
            self._require_key(head, place.kind)
            _require_no_browser(head, place.kind)
            head.route = (self._handlers[place.kind], Known(head, place, self._timeout_s))
        except PackhorseError as error:
            return status.failed(error)
        return None

    def _require_key(self, head: Head, kind: str) -> None:
        if self._key is None or kind in OPEN:
            return
        given = head.fields.get(b"authorization", b"")
        if not hmac.compare_digest(given, self._key):
            raise RefusedError(
                http.HTTPStatus.UNAUTHORIZED,
                "send this server's key: Authorization: Bearer …",
                b"www-authenticate: Bearer\r\n",
            )


def _require_no_browser(head: Head, kind: str) -> None:
    """Raise RefusedError for a change that a web page asks for, behind its reader's back."""
    if kind in CHANGES and b"origin" in head.fields:
        raise RefusedError(
            http.HTTPStatus.FORBIDDEN, "models are not loaded and unloaded from web pages"
        )
