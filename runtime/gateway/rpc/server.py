"""The gRPC server that clients meet."""

import grpc.aio

from runtime.errors import InvalidError
from runtime.gateway import reuseport
from runtime.gateway.rpc.proxy import RpcProxy

RPCS_MOST = 4096
"""Calls at once."""
MESSAGE_BYTES = 1 << 30
"""Above any limit that a configuration sets, which is looked at for each message."""

MIN_AGE_MS = 500
AGE_OF_DRAIN = 0.8
"""Of the time to drain, after which a connection is ended when its calls are: gRPC varies it by a
tenth. That is the one way that loses no call, see RpcFront."""


class RpcFront:
    """Serves a handler on a port.

    A server of gRPC's that stops cancels the calls that come in at that moment, and cannot be told
    to let go of its connections before. So each connection is ended by age (with GOAWAY, which its
    client answers with a new one), and when the gateway drains, there is none left to stop.
    """

    def __init__(
        self, proxy: RpcProxy, host: str, port: int, *, reuse_port: bool, drain_s: float
    ) -> None:
        """Open the port; take no connections yet. Raises InvalidError if it is not free."""
        age_ms = max(MIN_AGE_MS, int(drain_s * 1000 * AGE_OF_DRAIN))
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=RPCS_MOST,
            options=(
                ("grpc.so_reuseport", int(reuse_port)),
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
                ("grpc.max_connection_age_ms", age_ms),
                ("grpc.max_send_message_length", -1),
            ),
        )
        self._server.add_generic_rpc_handlers((proxy,))
        shown = f"[{host}]" if ":" in host else host
        try:
            self.port = self._server.add_insecure_port(f"{shown}:{port}")
        except RuntimeError as error:
            raise InvalidError("grpc address", f"{shown}:{port}", "give another") from error

    async def accept(self) -> None:
        """Take connections."""
        await self._server.start()

    async def send_elsewhere(self) -> bool:
        """Let another process that shares the port have new connections; False: there is none."""
        listener = reuseport.listener_at(self.port)
        if listener is None:
            return False
        with listener:
            return await reuseport.send_elsewhere(listener)

    async def stop(self, grace_s: float) -> None:
        """Tell clients to go elsewhere, and end with the last answer or after `grace_s`."""
        await self._server.stop(grace_s)
