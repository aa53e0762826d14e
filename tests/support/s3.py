"""A real S3 server of the tests' own (moto), buckets in it, and a proxy before it that misbehaves.

    with s3.serving() as server:
        server.url()                  # s3://test-0/some/prefix?endpoint=…, a new bucket
        with server.behind() as trouble:
            trouble.plan = lambda method, path: s3.Fault(status=500)
            server.url(trouble.endpoint)

Credentials are where the registry looks for them: in the environment.
"""

import contextlib
import http.client
import itertools
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from runtime import children
from tests.support import parts
from tests.support.brokers import eventually

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test-key", "AWS_SECRET_ACCESS_KEY": "test-secret"}
REGION = "eu-west-1"
PREFIX = "some/prefix"


class Server:
    """One moto server."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._names = itertools.count()

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def make(self) -> str:
        """Make a bucket; return its name."""
        name = f"test-{next(self._names)}"
        assert self.request("PUT", f"/{name}", f"<LocationConstraint>{REGION}").status == 200
        return name

    def url(self, endpoint: str | None = None, bucket: str | None = None) -> str:
        """Return what `blobs_url` may be: a bucket, a new one if none is named."""
        name = bucket or self.make()
        return f"s3://{name}/{PREFIX}?endpoint={endpoint or self.endpoint}&region={REGION}"

    def request(self, method: str, path: str, body: str = "") -> http.client.HTTPResponse:
        """Ask the server itself something."""
        made = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        text = f"<CreateBucketConfiguration>{body}</LocationConstraint></CreateBucketConfiguration>"
        made.request(method, path, text if body else None)
        return made.getresponse()

    @contextlib.contextmanager
    def behind(self) -> Iterator["Trouble"]:
        """Give a proxy before the server."""
        with contextlib.closing(Trouble(self.port)) as made:
            yield made


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """Give a running server; the environment has credentials for it meanwhile."""
    program = parts.require("moto_server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryFile() as log, pytest.MonkeyPatch.context() as patch:
        for name, value in CREDENTIALS.items():
            patch.setenv(name, value)
        child = children.spawn(
            [program, "-H", "127.0.0.1", "-p", str(port)],
            cwd=Path("/"),
            stdout=log,
            stderr=log,
        )
        try:
            eventually(lambda: _answers(port, child), "moto answers")
            yield Server(port)
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()


def _answers(port: int, child: "subprocess.Popen[bytes]") -> bool:
    assert child.poll() is None, "moto_server ended"
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one request."""

    status: int | None = None
    """Answer with this; the server never sees the request."""
    delay_s: float = 0.0
    """Answer so much later."""
    cut_after: int | None = None
    """Close the connection after so many bytes of the answer's body."""


FINE = Fault()
Plan = Callable[[str, str], Fault]
"""Method and path of a request to what goes wrong with it."""


class Trouble:
    """A proxy that passes requests on, but for what its plan says."""

    def __init__(self, port: int) -> None:
        """Stand before the server at this port."""
        self.plan: Plan = lambda _method, _path: FINE
        self.seen: list[tuple[str, str]] = []
        """Method and path of each request."""
        self.ending = threading.Event()
        trouble = self

        class Handler(_Handler):
            upstream = port
            proxy = trouble

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def endpoint(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        """End it."""
        self.ending.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: int
    proxy: Trouble

    def do_GET(self) -> None:
        self._pass()

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - the base class's names

    def _pass(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.proxy.seen.append((self.command, self.path))
        fault = self.proxy.plan(self.command, self.path)
        self.proxy.ending.wait(fault.delay_s)
        if fault.status is not None:
            self.send_response(fault.status)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        with contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=20)
        ) as made:
            made.request(self.command, self.path, body, dict(self.headers))
            answer = made.getresponse()
            self._answer(answer, answer.read(), fault)

    def _answer(self, answer: http.client.HTTPResponse, content: bytes, fault: Fault) -> None:
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"transfer-encoding", "connection", "date", "server"}:
                self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(content[: fault.cut_after])
        self.close_connection = fault.cut_after is not None

    def log_message(self, *_: object) -> None:
        """Say nothing."""
