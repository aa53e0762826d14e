"""A real receiver of webhooks: keeps what came, answers as the test says next."""

import contextlib
import http.server
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from cloud.trust.authority import Authority


@dataclass
class Received:
    """One message."""

    path: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        """What it tells."""
        found: dict[str, Any] = msgspec.json.decode(self.body)
        return found


@dataclass
class Receiver:
    """Answers with the first of `statuses` while there are any, then with 204."""

    url: str = ""
    got: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    answer: bytes = b""
    location: str | None = None
    answering: threading.Event = field(default_factory=threading.Event)
    """While it is not set, messages are kept and not answered."""

    def __post_init__(self) -> None:
        """Answer."""
        self.answering.set()

    @property
    def kinds(self) -> list[str]:
        """Of the messages that were taken or not, in the order of their coming."""
        return [each.event["type"] for each in self.got]


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that hang up."""


@contextlib.contextmanager
def receiving(authority: Authority | None = None) -> Iterator[Receiver]:
    """Receive until the block ends: over TLS with an authority, else in plain."""
    receiver = Receiver()
    lock = threading.Lock()

    class Requests(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            with lock:
                receiver.got.append(Received(self.path, headers, body))
                status = receiver.statuses.pop(0) if receiver.statuses else 204
            receiver.answering.wait()
            self.send_response(status)
            if receiver.location is not None:
                self.send_header("Location", receiver.location)
            self.send_header("Content-Length", str(len(receiver.answer)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(receiver.answer)

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
        receiver.url = f"{scheme}://127.0.0.1:{server.server_port}/hook"
        try:
            yield receiver
        finally:
            receiver.answering.set()
            server.shutdown()
            thread.join()
