"""A replica of its own process for the gateway's tests: NAME HTTP_PORT GRPC_PORT.

What it does is said by the model's name: `echo` answers at once; the others misbehave as named.
On SIGTERM it says 503 for a moment, as a server does that drains, and ends.
"""

import asyncio
import signal
import sys
from collections.abc import AsyncIterator

import grpc
import grpc.aio
from aiohttp import web

HOST = "127.0.0.1"
DRAIN_S = 0.3
SERVICE = "/inference.GRPCInferenceService/"


class Backend(grpc.GenericRpcHandler):
    """Answers over both protocols."""

    def __init__(self, name: str) -> None:
        self.name, self.draining, self.calls = name, False, 0

    async def infer(self, request: web.Request) -> web.StreamResponse:
        """Answer an inference request."""
        body = await request.read()
        self.calls += 1
        if self.draining:
            return web.json_response({"error": "draining"}, status=503)
        return await getattr(self, f"do_{request.match_info['model']}")(request, body)

    async def do_echo(self, request: web.Request, body: bytes) -> web.StreamResponse:
        """Tell what came."""
        told = {"model_name": "echo", "backend": self.name, "headers": dict(request.headers)}
        return web.json_response({**told, "body": body.decode("latin-1")})

    async def do_shares(self, _request: web.Request, _body: bytes) -> web.StreamResponse:
        """Answer alike on all backends, but for what may differ."""
        return web.json_response({"model_version": self.name, "outputs": [{"data": [0.5, 1.5]}]})

    async def do_differs(self, _request: web.Request, _body: bytes) -> web.StreamResponse:
        """Answer differently on each backend."""
        return web.json_response({"outputs": [{"data": [len(self.name), hash(self.name)]}]})

    async def do_slow(self, _request: web.Request, _body: bytes) -> web.StreamResponse:
        """Take a while."""
        await asyncio.sleep(0.5)
        return web.json_response({"backend": self.name})

    async def do_hang(self, _request: web.Request, _body: bytes) -> web.StreamResponse:
        """Never answer; say over /hung whether the client has gone."""
        self.hung = True
        try:
            await asyncio.sleep(3600)
        finally:
            self.hung = False
        return web.Response()

    hung = False

    async def do_garbage(self, request: web.Request, _body: bytes) -> web.StreamResponse:
        """Send what is no HTTP."""
        assert request.transport is not None
        request.transport.write(b"\x00\x01 this is no HTTP\r\n\r\n" * 3)
        request.transport.close()
        await asyncio.sleep(0.1)
        return web.Response()

    async def do_vanish(self, request: web.Request, _body: bytes) -> web.StreamResponse:
        """Close before a byte of the answer."""
        assert request.transport is not None
        request.transport.close()
        await asyncio.sleep(0.1)
        return web.Response()

    async def do_halfway(self, request: web.Request, _body: bytes) -> web.StreamResponse:
        """Close in the middle of a short answer of a known size."""
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n12345")
        request.transport.close()
        await asyncio.sleep(0.1)
        return web.Response()

    async def do_broken(self, request: web.Request, _body: bytes) -> web.StreamResponse:
        """Close in the middle of a streamed answer."""
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"data: 1\n\n")
        await asyncio.sleep(0.1)
        assert request.transport is not None
        request.transport.abort()
        return response

    async def do_stream(self, request: web.Request, _body: bytes) -> web.StreamResponse:
        """Send events, each after a word of the client's time."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for number in range(5):
            await response.write(f"data: {number}\n\n".encode())
            await asyncio.sleep(0.05)
        await response.write_eof()
        return response

    async def do_large(self, _request: web.Request, _body: bytes) -> web.StreamResponse:
        """Answer with 8 MB of a known size."""
        return web.Response(body=b"x" * (8 << 20))

    async def do_failing(self, _request: web.Request, _body: bytes) -> web.StreamResponse:
        """Answer 500."""
        return web.json_response({"error": "the model failed"}, status=500)

    async def ready(self, _request: web.Request) -> web.Response:
        """Say whether it drains."""
        return web.json_response({"ready": not self.draining}, status=503 if self.draining else 200)

    async def calls_so_far(self, _request: web.Request) -> web.Response:
        """Count inference requests; say whether one hangs."""
        return web.json_response({"calls": self.calls, "hung": self.hung})

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> "grpc.RpcMethodHandler[bytes, bytes] | None":
        """Answer gRPC: bytes for bytes."""
        match handler_call_details.method.removeprefix(SERVICE):
            case "ServerReady":
                return grpc.unary_unary_rpc_method_handler(self.rpc_ready)
            case "ModelInfer":
                return grpc.unary_unary_rpc_method_handler(self.rpc_infer)
            case "ModelStreamInfer":
                return grpc.stream_stream_rpc_method_handler(self.rpc_stream)
        return None

    async def rpc_ready(self, _request: bytes, _context: object) -> bytes:
        """Say whether it drains."""
        return b"" if self.draining else b"\x08\x01"

    async def rpc_infer(self, request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        """Echo, or fail as the request says."""
        if self.draining:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "draining")
        if request == b"invalid":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no such input")
        if request == b"hang":
            await asyncio.sleep(3600)
        seen = sorted(key for key, _ in context.invocation_metadata())
        context.set_trailing_metadata((("seen", ",".join(seen)),))
        return self.name.encode() + b":" + request

    async def rpc_stream(
        self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext
    ) -> AsyncIterator[bytes]:
        """Echo each message, or end as one says."""
        async for message in requests:
            if message == b"break":
                await context.abort(grpc.StatusCode.INTERNAL, "broken")
            yield self.name.encode() + b":" + message


async def main(name: str, http_port: int, grpc_port: int) -> None:
    """Serve until SIGTERM."""
    backend = Backend(name)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v2/models/{model}/infer", backend.infer)
    app.router.add_get("/v2/health/ready", backend.ready)
    app.router.add_get("/v2/models/stats", backend.calls_so_far)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, HOST, http_port).start()
    server = None
    if grpc_port:
        server = grpc.aio.server(options=(("grpc.so_reuseport", 0),))
        server.add_generic_rpc_handlers((backend,))
        server.add_insecure_port(f"{HOST}:{grpc_port}")
        await server.start()
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await ended.wait()
    backend.draining = True
    await asyncio.sleep(DRAIN_S)
    if server is not None:
        await server.stop(1.0)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
