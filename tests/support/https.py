"""A small real HTTPS server with an authority's certificate, which answers as a test tells it."""

import contextlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

from cloud.trust.authority import Authority

Answer: TypeAlias = tuple[int, bytes]
Handler: TypeAlias = Callable[[str, str, bytes], Answer]
"""Takes method, path and body."""


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that hang up, which is what many tests make them do."""


@contextlib.contextmanager
def serving(handler: Handler, authority: Authority | None = None) -> Iterator[str]:
    """Serve until the block ends; yields the URL: https with an authority, else plain http."""

    class Requests(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = handler(self.command, self.path, body)
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            """Say nothing."""

    with _Server(("127.0.0.1", 0), Requests) as server:
        scheme = "http"
        if authority is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(authority.server_cert_file, authority.server_key_file)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            scheme = "https"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"{scheme}://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
