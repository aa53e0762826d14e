"""The gRPC server that clients meet."""

import grpc.aio

from runtime.errors import InvalidError
from runtime.gateway.rpc.proxy import RpcProxy

RPCS_MOST = 4096
"""Calls at once."""
MESSAGE_BYTES = 1 << 30
"""Above any limit that a configuration sets, which is looked at for each message."""


class RpcFront:
    """Serves a handler on a port."""

    def __init__(self, proxy: RpcProxy, host: str, port: int, *, reuse_port: bool) -> None:
        """Open the port; take no connections yet. Raises InvalidError if it is not free."""
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=RPCS_MOST,
            options=(
                ("grpc.so_reuseport", int(reuse_port)),
                ("grpc.max_receive_message_length", MESSAGE_BYTES),
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

    async def stop(self, grace_s: float) -> None:
        """Tell clients to go elsewhere, and end with the last answer or after `grace_s`."""
        await self._server.stop(grace_s)
