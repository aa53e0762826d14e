"""What bounds the gateway's memory, on a server in the test's own process."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web

from runtime.gateway import front
from runtime.gateway.bodies import Bodies
from runtime.gateway.errors import RefusedError
from runtime.gateway.front import Front
from tests.support.brokers import HOST

Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[Client]]
HEAD = b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n"


def serving(
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    test: Callable[[Connect], Awaitable[None]],
) -> None:
    """Run a test against a front with this handler."""

    async def run() -> None:
        served = Front(handler, front.listen(HOST, 0))
        port = served.port
        await served.accept()
        clients: list[Client] = []

        async def connect() -> Client:
            clients.append(await asyncio.open_connection(HOST, port))
            return clients[-1]

        try:
            await asyncio.wait_for(test(connect), 30)
        finally:
            for _, writer in clients:
                writer.close()
            await served.stop(0.1)

    asyncio.run(run())


async def until(holds: Callable[[], bool]) -> None:
    """Return once something holds."""
    while not holds():  # noqa: ASYNC110 - polled
        await asyncio.sleep(0.01)


def test_bodies_are_bounded_all_together_and_room_comes_back() -> None:
    bodies = Bodies(most_held=1000)

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        try:
            body = await bodies.read(request, 10_000, 20.0)
        except RefusedError as refused:
            return web.Response(status=refused.status)
        bodies.release(body)
        return web.Response(body=body)

    async def test(connect: Connect) -> None:
        first, second = await connect(), await connect()
        first[1].write(HEAD + b"x" * 800)
        await until(lambda: bodies.held == 800)
        second[1].write(HEAD + b"x" * 800)
        assert (await second[0].readline()).startswith(b"HTTP/1.1 503 ")

        first[1].write(b"x" * 100)
        assert (await first[0].readline()).startswith(b"HTTP/1.1 200 ")
        assert bodies.held == 0

    serving(handler, test)


def test_a_client_that_leaves_in_the_middle_of_its_body_gives_its_room_back() -> None:
    bodies = Bodies()

    async def handler(request: web.BaseRequest) -> web.StreamResponse:
        bodies.release(await bodies.read(request, 10_000, 20.0))
        return web.Response()

    async def test(connect: Connect) -> None:
        _, writer = await connect()
        writer.write(HEAD + b"x" * 800)
        await until(lambda: bodies.held == 800)
        writer.transport.abort()
        await until(lambda: bodies.held == 0)

    serving(handler, test)


def test_connections_beyond_the_bound_are_closed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "CONNECTIONS_MOST", 2)

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async def test(connect: Connect) -> None:
        kept = await connect()
        kept[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await kept[0].readline()).startswith(b"HTTP/1.1 200 ")
        beyond = await connect()
        assert await beyond[0].read() == b""

        kept[1].write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: not kept[0].at_eof())

    serving(handler, test)


def test_an_error_nobody_foresaw_is_a_500_in_the_protocol_s_shape(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A library's own logging set-up may have turned off whatever logger was there before.
    monkeypatch.setattr(front.log, "disabled", False)

    async def handler(_request: web.BaseRequest) -> web.StreamResponse:
        raise ZeroDivisionError

    async def test(connect: Connect) -> None:
        reader, writer = await connect()
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert answer.endswith(b'{"error":"the gateway failed: see its log"}')

    serving(handler, test)

    assert "request failed" in caplog.text
