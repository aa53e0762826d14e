"""The registry's HTTP server: uvicorn, ending without waiting for clients that ask nothing."""

import socket
from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class WebServer(uvicorn.Server):
    """Serves until `should_exit`, then lets requests under way finish."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut idle connections, then drain the others.

        A TLS connection that is closed politely waits for the other side's word, which an idle
        client does not give: the process would stay for the whole of the drain time.
        """
        for connection in list(self.server_state.connections):
            served = cast("HttpToolsProtocol", connection)
            if served.cycle is None or served.cycle.response_complete:
                served.transport.abort()
        await super().shutdown(sockets)
