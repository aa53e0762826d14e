"""Pieces of files over HTTP: what a presigned URL gives, and not a byte more than was asked for.

One connection is kept open between requests. The registry itself is trusted by its own CA alone. An
offer may also name another host, such as an object store: that one is trusted by the registry's CA
or by one of the system's. Plain http is spoken to this machine only. Redirects are not followed: an
offer names where the bytes are.
"""

import http.client
import ssl
import urllib.parse
from collections.abc import Generator, Iterator
from pathlib import Path

from runtime import tls
from runtime.errors import InvalidError, LinkError
from runtime.keptline import KeptLine, shown

MAX_URL_CHARS = 4096
READ_BYTES = 64 * 1024
_OK, _PARTIAL, _FORBIDDEN = 200, 206, 403
_WAITING_HELPS = frozenset({408, 425, 429})
_SERVER_ERROR = 500

Place = tuple[str, str, int | None]
"""Scheme, host and port."""


class ExpiredError(LinkError):
    """The URL is not honoured any more: ask for a new offer."""


class RangeClient:
    """Reads from one server at a time; for use by one thread at a time."""

    def __init__(self, *, ca_file: Path | None, timeout_s: float, registry_url: str = "") -> None:
        """Trust this CA; give up a connection that is silent for `timeout_s`.

        Only hosts other than that of `registry_url` are trusted by the system's CAs too; none, if
        it is not given.
        """
        self._ca_file, self._timeout_s = ca_file, timeout_s
        self._registry = urllib.parse.urlsplit(registry_url).hostname
        self._line = KeptLine(self._connect)

    def read(
        self, url: str, start: int, stop: int, *, most: int = READ_BYTES
    ) -> Generator[bytes, None, None]:
        """Yield bytes `start` up to `stop` of a file, at most `most` at a time, as they arrive.

        Raises LinkError if the connection fails or the server is in trouble (what was yielded is
        right all the same), ExpiredError if the URL is, InvalidError if asking again is of no use.
        Close the generator, or exhaust it.
        """
        response = self._get(url, {"Range": f"bytes={start}-{stop - 1}"})
        try:
            self._require_range(response, url, start, stop)
            yield from self._body(response, url, stop - start, most)
        finally:
            self._line.finish(response)

    def read_whole(self, url: str, *, limit_bytes: int) -> bytes:
        """Return a whole file; raise as `read` does, InvalidError also if it is larger."""
        response = self._get(url, {})
        try:
            self._require_status(response, url, _OK)
            body = bytearray()
            while chunk := self._chunk(response, url, READ_BYTES):
                body += chunk
                if len(body) > limit_bytes:
                    raise InvalidError(shown(url), "its answer", f"send at most {limit_bytes}")
            if response.length:
                raise LinkError(f"{shown(url)}: cut {response.length} bytes before the end")
            return bytes(body)
        finally:
            self._line.finish(response)

    def close(self) -> None:
        """Give the connection up; the next read opens another."""
        self._line.close()

    def _get(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        place, target = _parsed(url)
        return self._line.get(place, target, headers, url=url)

    def _connect(self, place: Place) -> http.client.HTTPConnection:
        scheme, host, port = place
        if scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        if self._ca_file is None:
            raise InvalidError("ca_file", None, "an https:// offer needs the registry's CA: enrol")
        try:
            ca_pem = self._ca_file.read_text()
        except OSError as error:
            raise LinkError(f"{self._ca_file}: {error.strerror}: enrol again") from error
        context = tls.client_context(ca_pem=ca_pem)
        if self._registry is not None and host != self._registry:
            context.load_default_certs(ssl.Purpose.SERVER_AUTH)
        return http.client.HTTPSConnection(host, port, timeout=self._timeout_s, context=context)

    def _require_status(self, response: http.client.HTTPResponse, url: str, *wanted: int) -> None:
        status = response.status
        if status in wanted:
            return
        answer = f"{status} {response.reason}"
        if status == _FORBIDDEN:
            raise ExpiredError(f"{shown(url)}: {answer}: the offer expired")
        if status >= _SERVER_ERROR or status in _WAITING_HELPS:
            raise LinkError(f"{shown(url)}: {answer}")
        raise InvalidError(shown(url), answer, "the registry must serve what it offers")

    def _require_range(
        self, response: http.client.HTTPResponse, url: str, start: int, stop: int
    ) -> None:
        """Raise unless the body begins with byte `start`."""
        self._require_status(response, url, _OK, _PARTIAL)
        given = response.headers.get("Content-Range", "")
        if response.status == _PARTIAL:
            if not given.startswith(f"bytes {start}-{stop - 1}/"):
                raise InvalidError(
                    shown(url), given, f"send the range that was asked for: {start}-{stop - 1}"
                )
        elif start > 0:
            raise InvalidError(shown(url), "no range", "the server must honour HTTP Range")

    def _body(
        self, response: http.client.HTTPResponse, url: str, size: int, most: int
    ) -> Iterator[bytes]:
        """Yield `size` bytes of a body, however long it is."""
        left = size
        while left:
            chunk = self._chunk(response, url, min(left, most))
            if not chunk:
                raise LinkError(f"{shown(url)}: cut {left} bytes before the end")
            left -= len(chunk)
            yield chunk

    def _chunk(self, response: http.client.HTTPResponse, url: str, most: int) -> bytes:
        """Return what has arrived, so that nothing is lost if the connection is cut next."""
        with self._line.explaining(url):
            return response.read1(most)


def _parsed(url: str) -> tuple[Place, str]:
    """Return where to connect to and what to ask for there; raise InvalidError if unsafe."""
    if len(url) > MAX_URL_CHARS or not url.isascii():
        raise InvalidError("offer.url", url, f"give at most {MAX_URL_CHARS} ASCII characters")
    parts = tls.parse_url(url)
    target = parts.path or "/"
    return (
        (parts.scheme, parts.hostname or "", parts.port),
        f"{target}?{parts.query}" if parts.query else target,
    )
