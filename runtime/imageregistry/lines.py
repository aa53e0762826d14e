"""Connections to the servers of one image registry: its own, its token server, its blob stores.

TLS is trusted as engines trust it: the system's CAs and those in `certs.d/HOST`. A registry that
the engine's owner calls insecure is spoken to without that, if need be in plain HTTP; nobody else.
"""

import contextlib
import http.client
import ssl
import urllib.parse
from collections.abc import Mapping
from pathlib import Path

from runtime.imageregistry.errors import ImageAnswerError
from runtime.keptline import KeptLine, shown
from runtime.tls import LOOPBACK

CERTIFICATES = (Path("/etc/docker/certs.d"), Path("/etc/containers/certs.d"))
MAX_URL_CHARS = 8192

Place = tuple[str, str]
"""Scheme; host and port."""


class Lines:
    """One open connection, to the server that was asked last; for one thread."""

    def __init__(self, host: str, *, insecure: bool, timeout_s: float) -> None:
        """Speak to an image registry that is, or is not, called insecure."""
        self._insecure, self._timeout_s = insecure, timeout_s
        trust = f"put its CA into {CERTIFICATES[0]}/{host}/ca.crt"
        self._line = KeptLine(self._connect, trust=trust)

    def close(self) -> None:
        """Let go; the next request opens another connection."""
        self._line.close()

    def get(self, url: str, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        """Return the answer to a GET; raise LinkError, or ImageAnswerError for an unsafe URL."""
        place, target = self._parsed(url)
        return self._line.get(place, target, headers, url=url)

    def finish(self, response: http.client.HTTPResponse) -> None:
        """Keep the connection only if nothing of this answer is left in it."""
        self._line.finish(response)

    def explaining(self, url: str) -> contextlib.AbstractContextManager[None]:
        """Turn what can go wrong on a connection into LinkError, and drop the connection."""
        return self._line.explaining(url)

    def _parsed(self, url: str) -> tuple[Place, str]:
        try:
            parts = urllib.parse.urlsplit(url)
            known = bool(parts.hostname) and parts.port != 0 and not parts.username
        except ValueError:
            known = False
        if not known or len(url) > MAX_URL_CHARS or any(not "!" <= char <= "~" for char in url):
            raise ImageAnswerError(f"the image registry sends us to {url[:80]!r}, which is no URL")
        if parts.scheme != "https" and not (parts.scheme == "http" and self._insecure):
            raise ImageAnswerError(
                f"the image registry sends us to {shown(url)[:120]}: only https is trusted"
            )
        target = parts.path or "/"
        return (parts.scheme, parts.netloc), f"{target}?{parts.query}" if parts.query else target

    def _connect(self, place: Place) -> http.client.HTTPConnection:
        scheme, netloc = place
        if scheme == "http":
            return http.client.HTTPConnection(netloc, timeout=self._timeout_s)
        with self.explaining(f"https://{netloc}"):
            context = _context(netloc, verified=not self._insecure)
        return http.client.HTTPSConnection(netloc, timeout=self._timeout_s, context=context)


def is_insecure(host: str) -> bool:
    """Say whether every engine calls this host insecure by itself: it is this machine."""
    return (urllib.parse.urlsplit(f"//{host}").hostname or "") in LOOPBACK


def _context(host: str, *, verified: bool) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for folder in (each / host for each in CERTIFICATES):
        for authority in sorted(folder.glob("*.crt")):
            context.load_verify_locations(authority)
        for certificate in sorted(folder.glob("*.cert")):
            context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    if not verified:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context
