"""Requests over HTTP: let in, sent to a replica, answered.

    client ──► path, key, limit ──► body, whole ──► tries ──► answer ──► client
                    │                                           └─► mirror, capture (a copy)
                    └─► 4xx in the protocol's shape, {"error": …}

/v2/health/* is open and answered here, for the service as a whole.
"""

import asyncio
import http
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import unquote

import msgspec
from aiohttp import web
from multidict import CIMultiDict

from runtime.gateway import headers, trace
from runtime.gateway.bodies import Bodies
from runtime.gateway.config import Config
from runtime.gateway.doors import let_in
from runtime.gateway.errors import BrokenOffError, LateError, RefusedError, TryError
from runtime.gateway.exchanges import Answered, Asked
from runtime.gateway.http_replica import HttpCarrier
from runtime.gateway.replicas import Group, Replica
from runtime.gateway.retries import Failure
from runtime.gateway.routes import Fleet, Routes, Table
from runtime.gateway.stats import Stats
from runtime.gateway.tries import Purse, Tries
from runtime.gateway.upstream import Answer

log = logging.getLogger(__name__)

IN_HAND_MOST = 4096
"""Requests at once."""
_METHODS = ("GET", "HEAD", "POST")
_TOLD_BYTES = 300

Tap = Callable[[Config, Asked, Answered], None]
"""Is shown each answer that was passed on whole; returns at once."""
HttpReplica = Replica[HttpCarrier]


@dataclass
class Proxy:
    """The handler of the front's HTTP server."""

    routes: Routes
    fleet: Fleet[HttpCarrier]
    stats: Stats
    purse: Purse
    taps: list[Tap] = field(default_factory=list)
    draining: bool = False
    """Let every connection end with its next answer."""
    bodies: Bodies = field(default_factory=Bodies)

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        request_id = trace.request_id(request.headers.get(headers.REQUEST_ID))
        self.stats.in_hand += 1
        try:
            response = await self._answer(request, request_id)
        except RefusedError as refused:
            response = _refusal(refused, request_id)
        except asyncio.CancelledError:
            self.stats.gone += 1
            raise
        finally:
            self.stats.in_hand -= 1
        self.stats.answered(response.status)
        if self.draining and not response.prepared:
            response.force_close()
        return response

    @property
    def ready(self) -> bool:
        """Whether some revision that has traffic has a replica that answers."""
        table = self.routes.table
        if table is None or self.draining:
            return False
        sharing = tuple(r.name for r in table.config.revisions if r.weight)
        return any(group.well() for _, group in self.fleet.groups(sharing))

    async def _answer(self, request: web.BaseRequest, request_id: str) -> web.StreamResponse:
        path = _path(request)
        if path[:2] == ["v2", "health"]:
            return self._health(path)
        authorization = request.headers.get("Authorization")
        table = let_in(self.routes, authorization, request.headers.get("X-API-Key"))
        if self.stats.in_hand > IN_HAND_MOST:
            raise RefusedError(
                http.HTTPStatus.SERVICE_UNAVAILABLE, "too many requests at once", retry_after_s=1.0
            )
        config = table.config
        body = await self.bodies.read(request, config.max_body_bytes, config.timeout_s)
        try:
            rest = headers.to_replica(
                request.raw_headers,
                length=len(body),
                request_id=request_id,
                traceparent=trace.child(request.headers.get("traceparent")),
            )
            number = self.routes.number()
            asked = Asked(request_id, request.method, request.raw_path, rest, body, number)
            return await self._exchange(request, table, asked)
        finally:
            self.bodies.release(body)

    async def _exchange(
        self, request: web.BaseRequest, table: Table, asked: Asked
    ) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        began = loop.time()
        deadline = began + table.config.timeout_s
        tries = self._tries(asked, deadline)
        failed = True
        try:
            answer, replica = await tries.answer(asked.number)
            failed = answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR
        except LateError as error:
            raise RefusedError(
                http.HTTPStatus.GATEWAY_TIMEOUT,
                f"revision {tries.revision} did not answer in {table.config.timeout_s:g} s",
            ) from error
        except asyncio.CancelledError:
            failed = False  # the client's doing
            raise
        finally:
            latency_s = loop.time() - began
            if tries.revision:
                self.stats.of(tries.revision).add(latency_s, error=failed)
        told = headers.to_client(answer.headers, request_id=asked.id, revision=tries.revision)
        if answer.stream is not None:
            return await self._stream(request, answer, replica, told, table.config.timeout_s)
        replica.in_hand -= 1
        answered = Answered(tries.revision, answer.status, answer.headers, answer.body, latency_s)
        for tap in self.taps:
            tap(table.config, asked, answered)
        return web.Response(status=answer.status, body=answer.body, headers=told)

    def _tries(self, asked: Asked, deadline: float) -> Tries[HttpCarrier, Answer]:
        parts = (asked.rest, asked.body) if asked.body else (asked.rest,)
        bodyless = asked.method == "HEAD"

        async def once(replica: HttpReplica) -> Answer:
            answer = await replica.carrier.send(asked.line, parts, deadline, bodyless=bodyless)
            if answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE:
                if answer.stream is not None:
                    answer.stream.close()
                told = answer.body[:_TOLD_BYTES].decode("utf-8", "replace")
                raise TryError(Failure.SENT_AWAY, f"503 {told}")
            return answer

        def groups() -> list[tuple[str, Group[HttpCarrier]]]:
            newest = self.routes.table
            return self.fleet.groups(newest.order(asked.number) if newest else ())

        return Tries(groups, once, self.purse, deadline)

    async def _stream(
        self,
        request: web.BaseRequest,
        answer: Answer,
        replica: HttpReplica,
        told: "CIMultiDict[str]",
        timeout_s: float,
    ) -> web.StreamResponse:
        """Pass an answer on piece by piece; each is to come within `timeout_s`."""
        source = answer.stream
        assert source is not None
        response = web.StreamResponse(status=answer.status, headers=told)
        response.content_length = source.length
        if self.draining:
            response.force_close()
        try:
            await response.prepare(request)
            while piece := await source.chunk(timeout_s):
                await response.write(piece)
        except (BrokenOffError, LateError) as error:
            # The status is sent: a connection that ends too early is all that can still be said.
            revision = told[headers.REVISION]
            self.stats.of(revision).errors += 1
            facts = {"revision": revision, "request": told[headers.REQUEST_ID], "error": str(error)}
            log.warning("answer broke off", extra=facts)
            if request.transport is not None:
                request.transport.abort()
        finally:
            replica.in_hand -= 1
            replica.carrier.done(source)
        return response

    def _health(self, path: list[str]) -> web.Response:
        if path == ["v2", "health", "live"]:
            return _json(http.HTTPStatus.OK, {"live": True})
        if path == ["v2", "health", "ready"]:
            status = http.HTTPStatus.OK if self.ready else http.HTTPStatus.SERVICE_UNAVAILABLE
            return _json(status, {"live": True, "ready": self.ready})
        raise RefusedError(http.HTTPStatus.NOT_FOUND, "health has /live and /ready")


def _path(request: web.BaseRequest) -> list[str]:
    """Return the segments of a path that a service offers; raise RefusedError for any other.

    A list of what goes through, since replicas have more than that: their own metrics, and where it
    is on the model repository, whose calls have effects and must not be sent twice.
    """
    if request.method not in _METHODS:
        raise RefusedError(http.HTTPStatus.METHOD_NOT_ALLOWED, f"use one of {', '.join(_METHODS)}")
    path = request.raw_path.partition("?")[0]
    match segments := unquote(path).strip("/").split("/"):
        case _ if not path.startswith("/") or {".", ".."} & set(segments):
            raise RefusedError(http.HTTPStatus.BAD_REQUEST, "the path is not a plain one")
        case ["v2"] | ["v2", "models" | "health", *_] | ["score" | "openapi.json" | "docs"]:
            return segments
        case _:
            raise RefusedError(http.HTTPStatus.NOT_FOUND, "not offered here: start at /v2")


def _refusal(refused: RefusedError, request_id: str) -> web.Response:
    response = _json(refused.status, {"error": str(refused)})
    response.headers[headers.REQUEST_ID] = request_id
    if refused.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, math.ceil(refused.retry_after_s)))
    if refused.status == http.HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = 'Bearer realm="packhorse"'
    if refused.status == http.HTTPStatus.METHOD_NOT_ALLOWED:
        response.headers["Allow"] = ", ".join(_METHODS)
    if refused.status in {
        http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        http.HTTPStatus.REQUEST_TIMEOUT,
    }:
        response.force_close()
    return response


def _json(status: http.HTTPStatus, value: object) -> web.Response:
    return web.Response(
        status=status, body=msgspec.json.encode(value), content_type="application/json"
    )
