"""The gRPC side of the inference server: its port, its bounds, its end.

    start ──► serving ──► drain: no new calls, those that run may finish ──► stopped

It runs in the event loop that the HTTP side runs in. grpc brings threads and some 20 MB of its own,
so this package is imported only by a process that was asked for gRPC.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import grpc

from runtime.errors import InvalidError
from runtime.serving.dataplane import DataPlane
from runtime.serving.repository import Repository
from runtime.serving.rpc.infer import Infer
from runtime.serving.rpc.service import Service

log = logging.getLogger(__name__)

_MB = 1024 * 1024


@dataclass(frozen=True)
class RpcOptions:
    """What bounds this server."""

    max_message_bytes: int = 64 * _MB
    """Of one request."""
    max_held_bytes: int = 128 * _MB
    """Of all requests in memory together; past it they are told to come again."""
    timeout_s: float | None = None
    """Of requests that say none themselves; None: they wait."""
    max_calls: int = 1024
    """At once, over all connections; more are told to come again."""
    max_connections: int = 1024
    max_metadata_bytes: int = 16 * 1024
    handshake_s: float = 10.0
    """A connection that has not said by then what it is is closed."""
    ping_every_s: float = 60.0
    """A connection that says nothing is asked whether it is still there."""
    ping_wait_s: float = 20.0
    """It is closed if it does not answer."""
    pings_at_most_every_s: float = 10.0
    """A client that pings more often is sent away."""


DEFAULTS = RpcOptions()


class RpcServer:
    """A server that runs."""

    def __init__(self, server: "grpc.aio.Server", port: int) -> None:
        self._server = server
        self.port = port
        """Where it listens; 0 on a Unix socket."""

    async def drain(self, grace_s: float) -> None:
        """Take no new calls, let those that run finish within `grace_s`, and end."""
        await self._server.stop(grace_s)


async def start(
    plane: DataPlane,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    uds: Path | None = None,
    api_key: str | None = None,
    repository: Repository | None = None,
    options: RpcOptions = DEFAULTS,
) -> RpcServer:
    """Serve a data plane; raise InvalidError if the port or the socket cannot be had.

    Port 0 takes a free one. `uds` is a Unix socket in place of host and port, for this user alone.
    With an `api_key`, calls must bring it; whether one may go without is the caller's to decide.
    With a `repository`, clients may load and unload its models.
    """
    # Infer bounds the calls: grpc's own maximum_concurrent_rpcs does not say when to come again.
    server = grpc.aio.server(options=_arguments(options))
    infer = Infer(
        plane,
        max_calls=options.max_calls,
        max_held_bytes=options.max_held_bytes,
        timeout_s=options.timeout_s,
    )
    service = Service(plane, infer, repository=repository, api_key=api_key)
    server.add_generic_rpc_handlers((service,))
    bound = _bind(server, _address(host, port)) if uds is None else _bind_private(server, uds)
    await server.start()
    return RpcServer(server, bound)


def _bind(server: "grpc.aio.Server", address: str) -> int:
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise InvalidError(
            "--grpc-port", address, "it is taken, or not for this user: choose another"
        ) from error


def _bind_private(server: "grpc.aio.Server", uds: Path) -> int:
    _bind(server, f"unix:{uds}")
    uds.chmod(0o600)
    return 0


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _arguments(options: RpcOptions) -> tuple[tuple[str, int], ...]:
    """Return the options as grpc's core calls them."""
    return (
        ("grpc.max_receive_message_length", options.max_message_bytes),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", options.max_calls),
        ("grpc.max_allowed_incoming_connections", options.max_connections),
        ("grpc.max_metadata_size", options.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", options.max_metadata_bytes),
        ("grpc.server_handshake_timeout_ms", round(options.handshake_s * 1000)),
        ("grpc.keepalive_time_ms", round(options.ping_every_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(options.ping_wait_s * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            round(options.pings_at_most_every_s * 1000),
        ),
        # Two servers on one port would each get half of the calls, and nobody would know.
        ("grpc.so_reuseport", 0),
    )
