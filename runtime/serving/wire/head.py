"""The head of a request: its bytes parsed once, and remembered.

A client sends the same head again and again, byte for byte, so a server that has parsed it finds it
in a dictionary. What is remembered depends on those bytes alone.

The grammar is llhttp's (httptools), strict. It sees nothing but heads: a fresh parser for each one,
so no state of it lasts from one request to the next.
"""

import http
import math
from typing import Any

import httptools

from runtime.serving.wire.errors import RefusedError

END = b"\r\n\r\n"
MAX_REMEMBERED = 512
MAX_REMEMBERED_BYTES = 2048
"""Of one head; what is longer is parsed anew."""
VERSIONS = ("1.1", "1.0")


class Head:
    """A request line and its headers; never changed but for `route`, which is the app's."""

    __slots__ = (
        "chunked",
        "expects",
        "fields",
        "is_head",
        "keep_alive",
        "length",
        "method",
        "old",
        "route",
        "target",
    )

    def __init__(
        self, method: str, target: bytes, fields: dict[bytes, bytes], *, old: bool
    ) -> None:
        """Raise RefusedError if the headers ask for what HTTP/1.1 here does not do."""
        self.method, self.target, self.fields, self.old = method, target, fields, old
        """`fields` by name in lower case; values of a repeated one are joined by commas."""
        self.is_head = method == "HEAD"
        coding = fields.get(b"transfer-encoding")
        if coding is not None and (coding.lower() != b"chunked" or old):
            raise RefusedError(
                http.HTTPStatus.NOT_IMPLEMENTED,
                f"Transfer-Encoding: {_shown(coding)} is not taken: send chunked, in HTTP/1.1",
            )
        self.chunked = coding is not None
        self.length = int(fields.get(b"content-length", b"0"))
        """Of the body; it says nothing if that is chunked."""
        expected = fields.get(b"expect")
        if expected is not None and expected.lower() != b"100-continue":
            raise RefusedError(
                http.HTTPStatus.EXPECTATION_FAILED,
                f"Expect: {_shown(expected)} is not known: send 100-continue or leave it out",
            )
        self.expects = expected is not None and not old
        tokens = {token.strip() for token in fields.get(b"connection", b"").lower().split(b",")}
        self.keep_alive = b"keep-alive" in tokens if old else b"close" not in tokens
        self.route: Any = None
        """What the app made of this head; None: it has not seen it yet."""

    @property
    def body_expected(self) -> bool:
        """Say whether a body follows."""
        return self.chunked or self.length > 0


class _Reader:
    """What httptools calls."""

    def __init__(self) -> None:
        self.target = b""
        self.fields: dict[bytes, bytes] = {}
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.strip()
        before = self.fields.get(name)
        self.fields[name] = value if before is None else before + b", " + value

    def on_headers_complete(self) -> None:
        self.complete = True


def parse(data: bytes) -> Head:
    """Return the head that these bytes are, up to and with the empty line; else RefusedError."""
    reader = _Reader()
    parser = httptools.HttpRequestParser(reader)
    try:
        parser.feed_data(data)
    except httptools.HttpParserUpgrade:
        pass  # an offer that is not taken up: RFC 9110, 7.8
    except httptools.HttpParserError as error:
        raise RefusedError(http.HTTPStatus.BAD_REQUEST, f"malformed HTTP: {error}") from error
    if not reader.complete:
        raise RefusedError(http.HTTPStatus.BAD_REQUEST, "malformed HTTP: no request in it")
    version = parser.get_http_version()
    if version not in VERSIONS:
        raise RefusedError(
            http.HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
            f"HTTP/{version} is not spoken here: use HTTP/1.1",
        )
    method = parser.get_method().decode("ascii")
    return Head(method, reader.target, reader.fields, old=version == "1.0")


class Heads:
    """Heads by their bytes."""

    def __init__(self, *, most_bytes: int) -> None:
        """Remember those of bodies of up to so many bytes."""
        self._most_bytes = most_bytes
        self._known: dict[bytes, Head] = {}
        self.get = self._known.get
        """The remembered head of these bytes, or None; bound once, for speed."""

    def parse(self, data: bytes) -> Head:
        """Return the head, remembered or parsed; raise RefusedError as `parse` does."""
        head = self._known.get(data)
        if head is None:
            head = parse(data)
            if len(data) <= MAX_REMEMBERED_BYTES and head.length <= self._most_bytes:
                if len(self._known) >= MAX_REMEMBERED:
                    self._known.clear()
                self._known[data] = head
        return head

    def forget(self) -> None:
        """Let the app look at every head anew."""
        self._known.clear()


def retry_after(seconds: float) -> bytes:
    """Return the header line that says when to come again: whole seconds, at least 1."""
    return b"retry-after: %d\r\n" % max(1, math.ceil(seconds))


def _shown(value: bytes) -> str:
    return value[:60].decode("latin-1")
