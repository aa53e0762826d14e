"""Gives neighbours the parts that this device has: HTTPS, for members of the fleet alone.

    GET /v1/{table digest}          {"parts": hexadecimal bitmap, "bytes": how many have come}
    GET /v1/{table digest}/{part}   the part; 404: not here (yet)

Whoever calls shows a certificate of the registry's CA, and names a digest that only the registry
tells, and only to devices that shall run what is behind it. Callers at once and bytes a second are
bounded.
"""

import logging
import re
import socket
import socketserver
import ssl
import threading
from http.server import BaseHTTPRequestHandler
from typing import Any

import msgspec

from edge_agent.lan.shelf import Shelf, State
from edge_agent.pace import Pace
from runtime.digests import Digest

log = logging.getLogger(__name__)

MOST_CALLERS = 8
SILENT_S = 30.0
ANY_PORT = 443
SEND_BYTES = 64 * 1024
_PATH = re.compile(r"/v1/([0-9a-f]{64})(?:/([0-9]{1,6}))?")
_OK, _NOT_FOUND = 200, 404


class Giver:
    """Listens from its making on; serves between `start` and `stop`."""

    def __init__(
        self, shelf: Shelf, context: ssl.SSLContext, *, host: str, port: int, pace: Pace | None
    ) -> None:
        """Raise OSError if the port cannot be had."""
        self._server = _Server(shelf, context, (host, port), pace)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="lan-giver", daemon=True
        )

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; callers that are being served are cut off."""
        self._server.stopping.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    # Not HTTPServer: that one asks the name service for our name, which may not answer.
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True

    def __init__(
        self, shelf: Shelf, context: ssl.SSLContext, address: tuple[str, int], pace: Pace | None
    ) -> None:
        self.shelf, self.pace, self.stopping = shelf, pace, threading.Event()
        self._context = context
        self._room = threading.BoundedSemaphore(MOST_CALLERS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve in a thread of its own, or hang up: the caller asks another or comes again."""
        if not self._room.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands here, so that nobody keeps the next caller waiting."""
        try:
            request.settimeout(SILENT_S)
            with self._context.wrap_socket(request, server_side=True) as secured:
                self.finish_request(secured, client_address)
        except OSError as error:
            log.debug("neighbour not served", extra={"reason": str(error)})
        finally:
            self.shutdown_request(request)
            self._room.release()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = SILENT_S

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""

    def do_GET(self) -> None:
        """Answer one request."""
        named = _PATH.fullmatch(self.path)
        body: bytes | None = None
        if named is not None and named[2] is None:
            body = self._state(Digest(named[1]))
        elif named is not None:
            body = self.server.shelf.read(Digest(named[1]), int(named[2]))
        self.send_response(_NOT_FOUND if body is None else _OK)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self._send(body or b"")

    def _state(self, table: Digest) -> bytes | None:
        have = self.server.shelf.have(table)
        if have is None:
            return None
        bits = sum(1 << part for part in have.parts)
        return msgspec.json.encode(State(f"{bits:x}", have.bytes))

    def _send(self, body: bytes) -> None:
        pace = self.server.pace
        for start in range(0, len(body), SEND_BYTES):
            piece = body[start : start + SEND_BYTES]
            if pace is not None and self.server.stopping.wait(pace.take(len(piece))):
                self.close_connection = True
                return
            self.wfile.write(piece)


def address_towards(host: str) -> str:
    """Return the address that this device has on the network by which it reaches `host`.

    Sends nothing. Raises OSError if there is no way there.
    """
    family, kind, _, _, place = socket.getaddrinfo(host, ANY_PORT, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind) as probe:
        probe.connect(place)
        return str(probe.getsockname()[0])
