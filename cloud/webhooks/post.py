"""One message to one receiver: bounded in time and size, to an address that was judged before.

No redirect is followed and no proxy is asked: either would lead to an address that nobody judged.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cloud.webhooks import addresses
from cloud.webhooks.addresses import Network

TIMEOUT_S = 15.0
KEPT_BYTES = 1000
_GOOD, _REDIRECT = range(200, 300), range(300, 400)
_GONE = 410


@dataclass(frozen=True)
class Answer:
    """How an attempt went."""

    status: int | None
    """None: there was no HTTP answer."""
    took_ms: float
    detail: str
    """The beginning of the body, or why there was no answer."""

    @property
    def good(self) -> bool:
        """The receiver has it."""
        return self.status in _GOOD

    @property
    def gone(self) -> bool:
        """The receiver wants no more."""
        return self.status == _GONE


class RefusedError(OSError):
    """The receiver's address may not be reached."""


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    private: Sequence[Network],
    timeout_s: float = TIMEOUT_S,
    context: ssl.SSLContext | None = None,
) -> Answer:
    """Send a message and return how that went; raises nothing that the network can cause."""
    started = time.monotonic()

    def took_ms() -> float:
        return round((time.monotonic() - started) * 1000, 1)

    try:
        connection = _connected(url, private, timeout_s, context)
        status, detail = _exchange(connection, url, body, headers, timeout_s - took_ms() / 1000)
    except (OSError, http.client.HTTPException, UnicodeError) as error:
        return Answer(None, took_ms(), (str(error) or type(error).__name__)[:KEPT_BYTES])
    if status in _REDIRECT:
        detail = "it redirects, which is not followed: give the URL it leads to"
    return Answer(status, took_ms(), detail)


def _connected(
    url: str, private: Sequence[Network], timeout_s: float, context: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    """Return a connection to a judged address of the URL's host; TLS has not begun yet."""
    parts = urllib.parse.urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    connection = http.client.HTTPConnection(host, parts.port or (443 if secure else 80))
    address = _judged(host, connection.port, private, plain=not secure)
    plain = socket.create_connection((address, connection.port), timeout_s)
    connection.sock = plain
    if secure:
        context = context or ssl.create_default_context()
        connection.sock = context.wrap_socket(
            plain, server_hostname=host, do_handshake_on_connect=False
        )
    return connection


def _exchange(
    connection: http.client.HTTPConnection,
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    left_s: float,
) -> tuple[int, str]:
    """Return status and the beginning of the body."""
    # Time-outs of a socket begin anew with each byte; this ends it whatever trickles in.
    late = threading.Event()
    killer = threading.Timer(max(0.0, left_s), _cut, (connection.sock, late))
    killer.daemon = True
    killer.start()
    try:
        if isinstance(connection.sock, ssl.SSLSocket):
            connection.sock.do_handshake()
        parts = urllib.parse.urlsplit(url)
        target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
        connection.request("POST", target, body, dict(headers))
        answer = connection.getresponse()
        # Cut off within its headers, the answer would look whole.
        if late.is_set():
            raise TimeoutError("no answer in time")
        return answer.status, answer.read(KEPT_BYTES).decode("utf-8", "replace")
    finally:
        killer.cancel()
        connection.close()


def _cut(connection: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):
        # Not SSLSocket's own method, which takes TLS off while another thread reads.
        socket.socket.shutdown(connection, socket.SHUT_RDWR)


def _judged(host: str, port: int, private: Sequence[Network], *, plain: bool) -> str:
    """Return an address of a host; raise RefusedError if any of them may not be reached."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise OSError(f"{host}: its address cannot be found: {error.strerror}") from error
    numbers = [str(each[4][0]) for each in found]
    for number in numbers:
        if not addresses.allowed(number, private=private):
            raise RefusedError(f"{host} is {number}: not public: see webhook_networks")
        if plain and not addresses.listed(number, private):
            raise RefusedError(f"{host} is {number}: use https:// there")
    return numbers[0]
