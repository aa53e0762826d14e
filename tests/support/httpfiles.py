"""A real HTTP server that serves blobs as the registry does, and misbehaves on request."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

from cloud.storage.blobs import Blobs
from cloud.storage.directory import Directory
from cloud.storage.encodings import EncodingStore, Recipe
from runtime import messages
from runtime.bundle.build import Built, build
from runtime.digests import Digest
from runtime.messages import FetchRequest, FetchResponse, Offer

SEND_BYTES = 16 * 1024


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer."""

    status: int | None = None
    """Answer with this status and no file."""
    cut_after: int | None = None
    """Close the connection after so many bytes of the body."""
    flip_byte: int | None = None
    """Change this byte of the body, counted from its start."""
    drop_bytes: int = 0
    """Leave these off the end, and say so in Content-Length."""
    ignore_range: bool = False
    shift_range: bool = False
    """Answer with the range one byte further on."""
    close: bool = False
    """Close the connection after the answer, without a word about it."""


NO_FAULT = Fault()
Plan = Callable[[str, int], Fault]
"""Path and number of the request (from 0) to what goes wrong with it."""


class FileServer:
    """Serves bundles and blobs on 127.0.0.1; counts what it sends."""

    def __init__(self, directory: Path, *, context: ssl.SSLContext | None = None) -> None:
        """Keep blobs below a directory; speak TLS if a context is given."""
        self.store = Directory(directory)
        self.blobs = Blobs(self.store)
        self.encodings = EncodingStore(self.store, self.blobs)
        self.plan: Plan = lambda _path, _number: NO_FAULT
        self.bytes_per_s: float | None = None
        self.requests: list[tuple[str, str]] = []
        """Path and Range of each request for a file."""
        self.asked: list[FetchRequest] = []
        self.deltas: dict[Digest, Recipe] = {}
        """What is offered for a blob to a device that can decode it; all else comes whole."""
        self.sent_bytes = 0
        self._changed = threading.Condition()
        self._closing = threading.Event()
        self._making = threading.Lock()
        self._http = _Http(self)
        if context is not None:
            self._http.socket = context.wrap_socket(
                self._http.socket, server_side=True, do_handshake_on_connect=False
            )
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._http.server_address[1]}"

    @contextlib.contextmanager
    def running(self) -> Iterator["FileServer"]:
        """Serve until the block ends."""
        thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield self
        finally:
            with self._making:
                self._closing.set()
            self._http.shutdown()
            thread.join()
            self.close()

    def close(self) -> None:
        """Give the port back; for a server that never ran."""
        self._http.server_close()

    def add(self, directory: Path) -> Built:
        """Serve a bundle."""
        built = build(directory)
        self.blobs.put_bytes(built.index_bytes)
        for digest, path in built.files.items():
            self.blobs.put_file(digest, path)
        return built

    def answer(self, request: FetchRequest) -> FetchResponse:
        """Offer what a device asks for."""
        self.asked.append(request)
        offers = []
        for blob in request.blobs:
            with self._making:
                if self._closing.is_set():  # whoever asked is gone, and so is the directory soon
                    break
                offers.append(self.offer(blob, request.encodings))
        return FetchResponse(request.id, tuple(offers))

    def offer(self, blob: Digest, known: Collection[str] = ("zstd",)) -> Offer:
        """Offer one blob, by a URL with a secret in it."""
        plain = Recipe(blob, "zstd")
        recipe = self.deltas.get(blob, plain)
        made = self.encodings.get(recipe if recipe.encoding in known else plain)
        encoding, base = made.recipe.encoding, made.recipe.base
        url = f"{self.url}/dl/{encoding}/{blob}" + (f"/from/{base}" if base else "")
        return Offer(
            blob=blob,
            size=made.table.size,
            encoding=encoding,
            encoded_size=made.table.encoded_size,
            url=f"{url}?s=secret",
            parts_url=f"{url}/parts?s=secret",
            parts_sha256=made.table_sha256,
            base=base,
            whole_size=self.encodings.get(plain).table.encoded_size if base else 0,
        )

    def content(self, path: str) -> bytes:
        """Return what lies at a path."""
        _, _, encoding, digest, *rest = path.split("/")
        base = Digest(rest[1]) if rest[:1] == ["from"] else None
        made = self.encodings.get(Recipe(Digest(digest), encoding, base))
        is_table = rest[-1:] == ["parts"]
        return made.table_bytes if is_table else b"".join(self.store.read(made.key))

    def begin(self, path: str, wanted_range: str) -> Fault:
        """Note a request; return what goes wrong with it."""
        with self._changed:
            self.requests.append((path, wanted_range))
            return self.plan(path, len(self.requests) - 1)

    def count(self, sent_bytes: int) -> None:
        """Note bytes that were sent, and wait as long as a slow line would take."""
        with self._changed:
            self.sent_bytes += sent_bytes
            self._changed.notify_all()
        if self.bytes_per_s is not None:
            self._closing.wait(sent_bytes / self.bytes_per_s)

    def wait_until_sent(self, total_bytes: int, timeout_s: float = 60.0) -> None:
        """Return once so many bytes were sent since the start."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.sent_bytes >= total_bytes, timeout_s)


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: FileServer) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", 0), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet about clients that hang up or die, which is what tests make them do."""


class _Handler(BaseHTTPRequestHandler):
    server: _Http
    protocol_version = "HTTP/1.1"
    timeout = 30
    disable_nagle_algorithm = True

    def setup(self) -> None:
        # Little is on its way when a client dies, so what was sent is nearly what arrived.
        self.request.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * SEND_BYTES)
        super().setup()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        """Say nothing."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = messages.encode(self.server.owner.answer(messages.decode(FetchRequest, body)))
        self._reply(200, answer, {}, NO_FAULT)

    def do_GET(self) -> None:
        path, asked = urlsplit(self.path).path, self.headers.get("Range", "")
        fault = self.server.owner.begin(path, asked)
        if fault.status is not None:
            self._reply(
                fault.status, b"no\n", {"Location": f"{self.server.owner.url}/elsewhere"}, fault
            )
            return
        whole = self.server.owner.content(path)
        if not asked or fault.ignore_range:
            self._reply(200, whole, {}, fault)
            return
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        first, last = first + fault.shift_range, last + fault.shift_range
        span = {"Content-Range": f"bytes {first}-{last}/{len(whole)}"}
        self._reply(206, whole[first : last + 1], span, fault)

    def _reply(self, status: int, body: bytes, headers: dict[str, str], fault: Fault) -> None:
        body = body[: len(body) - fault.drop_bytes]
        if fault.flip_byte is not None and body:
            at = fault.flip_byte % len(body)
            body = body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        stop = len(body) if fault.cut_after is None else min(fault.cut_after, len(body))
        try:
            for start in range(0, stop, SEND_BYTES):
                piece = body[start : min(start + SEND_BYTES, stop)]
                self.wfile.write(piece)
                self.server.owner.count(len(piece))
        except OSError:
            self.close_connection = True
        if fault.cut_after is not None or fault.close:
            self.close_connection = True
