"""Requests over gRPC: let in, sent to a replica, answered. Messages are bytes here.

The same keys, limits, weights and tries as over HTTP:

    unary       the request is held, so it can be sent again until an answer comes
    streaming   what the client has sent so far is held until the first message of an answer comes;
                from then on there is no second try

Liveness and readiness are open and answered here, for the service as a whole. Methods with effects
(the model repository's, shared memory's) are not offered.
"""

import asyncio
import http
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias, TypeVar

import grpc
import grpc.aio

from runtime.gateway import trace
from runtime.gateway.doors import let_in
from runtime.gateway.errors import LateError, RefusedError, TryError
from runtime.gateway.replicas import Group, Replica
from runtime.gateway.routes import Fleet, Routes
from runtime.gateway.rpc import calls
from runtime.gateway.rpc.calls import Call, Code, Metadata, StatusError
from runtime.gateway.rpc.replay import Replay, TooLargeError
from runtime.gateway.rpc.replica import RpcCarrier, failure
from runtime.gateway.stats import Stats
from runtime.gateway.tries import Purse, Tries

Context = grpc.aio.ServicerContext[Any, Any]
RpcReplica = Replica[RpcCarrier]
ResultT = TypeVar("ResultT")
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any] | None"


@dataclass
class RpcProxy(grpc.GenericRpcHandler):
    """The handler of the gRPC server."""

    routes: Routes
    fleet: Fleet[RpcCarrier]
    stats: Stats
    purse: Purse
    ready: Callable[[], bool]

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """Return who handles a method; None if it is not offered."""
        method = handler_call_details.method
        if method == calls.LIVE or method in calls.NOT_READY:
            return grpc.unary_unary_rpc_method_handler(self._health(method))
        if method in calls.UNARY:
            return grpc.unary_unary_rpc_method_handler(self._unary(method))
        if method.startswith(calls.STREAMING):
            return grpc.stream_stream_rpc_method_handler(self._streaming(method))
        return None

    def _health(self, method: str) -> Any:
        async def answer(_request: bytes, _context: Context) -> bytes:
            return calls.TRUE if method == calls.LIVE or self.ready() else calls.NOT_READY[method]

        return answer

    def _unary(self, method: str) -> Any:
        async def answer(request: bytes, context: Context) -> bytes:
            try:
                call = self._let_in(method, context)
                _require_size(request, self._most_bytes)
                body, initial, trailing = await self._ask(call, request)
            except StatusError as status:
                await self._abort(context, status)
            await context.send_initial_metadata(initial)
            context.set_trailing_metadata(trailing)
            self.stats.rpc_ended(Code.OK.name)
            return body

        return answer

    async def _ask(self, call: Call, request: bytes) -> tuple[bytes, Metadata, Metadata]:
        """Return the answer's message, and what stands before and behind it."""

        async def once(replica: RpcReplica) -> tuple[bytes, Metadata, Metadata]:
            ask = replica.carrier.unary(call.method)
            asked = ask(request, timeout=call.timeout_s, metadata=call.metadata)
            body = await _answered(asked)
            initial = calls.passed(await asked.initial_metadata())
            return body, initial, calls.passed(await asked.trailing_metadata())

        (body, initial, trailing), replica, revision = await self._try(call, once)
        replica.in_hand -= 1
        return body, _told(initial, call, revision), trailing

    def _streaming(self, method: str) -> Any:
        async def answer(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
            try:
                call = self._let_in(method, context)
                async for message in self._stream(call, requests, context):
                    yield message
            except StatusError as status:
                await self._abort(context, status)
            self.stats.rpc_ended(Code.OK.name)

        return answer

    async def _stream(
        self, call: Call, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncIterator[bytes]:
        replay = Replay(requests, self._most_bytes)
        pump = asyncio.get_running_loop().create_task(replay.pump())
        replica: RpcReplica | None = None

        async def once(replica: RpcReplica) -> tuple[Any, Any]:
            begun = replica.carrier.stream(call.method)(replay.messages(), metadata=call.metadata)
            return begun, await _answered(begun.read(), begun)

        begun: Any = None
        try:
            await replay.begun()
            (begun, message), replica, revision = await self._try(call, once)
            replay.forget()
            initial = calls.passed(await begun.initial_metadata())
            await context.send_initial_metadata(_told(initial, call, revision))
            while message is not grpc.aio.EOF:
                yield message
                message = await _answered(begun.read(), begun, final=True)
            context.set_trailing_metadata(calls.passed(await begun.trailing_metadata()))
        except TooLargeError as error:
            raise StatusError(Code.RESOURCE_EXHAUSTED, str(error)) from error
        finally:
            pump.cancel()
            if begun is not None:
                begun.cancel()
            if replica is not None:
                replica.in_hand -= 1

    async def _try(
        self, call: Call, once: Callable[[RpcReplica], Awaitable[ResultT]]
    ) -> tuple[ResultT, RpcReplica, str]:
        """Return an answer, whose it is, and of which revision. Raises StatusError."""
        loop = asyncio.get_running_loop()
        began = loop.time()

        def groups() -> list[tuple[str, Group[RpcCarrier]]]:
            table = self.routes.table
            return self.fleet.groups(table.order(call.number) if table else ())

        tries = Tries(groups, once, self.purse, began + call.timeout_s)
        failed = False
        try:
            result, replica = await tries.answer(call.number)
        except RefusedError as refused:
            failed = True
            raise calls.refusal(refused) from refused
        except LateError as error:
            failed = True
            raise StatusError(Code.DEADLINE_EXCEEDED, str(error)) from error
        except StatusError as status:
            failed = status.is_fault
            raise
        finally:
            if tries.revision:
                self.stats.of(tries.revision).add(loop.time() - began, error=failed)
        return result, replica, tries.revision

    def _let_in(self, method: str, context: Context) -> Call:
        given: Metadata = tuple(context.invocation_metadata() or ())
        try:
            table = let_in(
                self.routes, calls.text(given, "authorization"), calls.text(given, "x-api-key")
            )
        except RefusedError as refused:
            raise calls.refusal(refused) from refused
        request_id = trace.request_id(calls.text(given, calls.REQUEST_ID))
        traceparent = trace.child(calls.text(given, calls.TRACEPARENT))
        remaining = context.time_remaining()
        timeout_s = table.config.timeout_s
        return Call(
            method=method,
            metadata=calls.to_replica(given, request_id, traceparent),
            request_id=request_id,
            number=self.routes.number(),
            timeout_s=timeout_s if remaining is None else min(timeout_s, remaining),
        )

    @property
    def _most_bytes(self) -> int:
        table = self.routes.table
        return table.config.max_body_bytes if table else 0

    async def _abort(self, context: Context, status: StatusError) -> NoReturn:
        self.stats.rpc_ended(status.code.name)
        await context.abort(status.code, status.details, status.trailing)


async def _answered(
    answer: Awaitable[ResultT], call: Any = None, *, final: bool = False
) -> ResultT:
    """Return what a replica answers; raise TryError if another may, else StatusError.

    `final`: the client has seen the beginning, so no other may.
    """
    try:
        return await answer
    except grpc.aio.AioRpcError as error:
        kind = failure(error)
        if call is not None:
            call.cancel()
        if kind is not None and not final:
            raise TryError(kind, error.details() or "no answer") from error
        trailing = calls.passed(error.trailing_metadata())
        raise StatusError(error.code(), error.details() or "", trailing) from error


def _told(initial: Metadata, call: Call, revision: str) -> Metadata:
    return (*initial, (calls.REQUEST_ID, call.request_id), (calls.REVISION, revision))


def _require_size(request: bytes, most_bytes: int) -> None:
    if len(request) > most_bytes:
        text = f"the message is too large: send at most {most_bytes} bytes"
        raise calls.refusal(RefusedError(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text))
