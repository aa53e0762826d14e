"""One image registry, asked as engines ask it: manifests whole, layers by range.

    GET /v2/NAME/manifests/TAG-or-digest       401 ──► say who we are, as it asks, and again
    GET /v2/NAME/blobs/DIGEST (Range)          30x ──► where the bytes are, without saying it there

A token is good for one repository and is made anew when it is refused once. What comes is compared
with its digest by whoever asked for a layer, here for a manifest.
"""

import base64
import contextlib
import hashlib
import http.client
import json
import urllib.parse
from collections.abc import Generator, Iterator
from typing import NamedTuple

from runtime.containers.specs import Credentials
from runtime.errors import IntegrityError, LinkError
from runtime.imageregistry import challenges, manifests
from runtime.imageregistry.challenges import Challenge
from runtime.imageregistry.errors import (
    AbsentImageError,
    DeniedError,
    ImageAnswerError,
    NoRangesError,
)
from runtime.imageregistry.lines import Lines
from runtime.imageregistry.names import ImageName

READ_BYTES = 64 * 1024
TIMEOUT_S = 30.0
_MAX_TOKEN_BYTES = 256 * 1024
_MOST_STEPS = 6
"""Challenges and redirects for one request."""
_OK, _PARTIAL, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 200, 206, 401, 403, 404
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_WAITING_HELPS = frozenset({408, 425, 429})
_SERVER_ERROR = 500


class Document(NamedTuple):
    """An index or a manifest as the registry has it."""

    digest: str
    media_type: str
    data: bytes


class RegistryClient:
    """Asks for the images of one repository; for one thread. Close it."""

    def __init__(
        self,
        name: ImageName,
        credentials: Credentials | None,
        *,
        insecure: bool,
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Speak to the registry of `name`; `insecure`: also without TLS that can be verified."""
        self._name, self._credentials = name, credentials
        self._lines = Lines(name.server, insecure=insecure, timeout_s=timeout_s)
        self._schemes = ["https", "http"] if insecure else ["https"]
        self._authorization = ""

    def close(self) -> None:
        """Let go."""
        self._lines.close()

    def document(self, reference: str, *, limit_bytes: int = manifests.MAX_BYTES) -> Document:
        """Return an index or manifest by tag or digest, of at most so many bytes.

        Raises AbsentImageError, DeniedError, ImageAnswerError, IntegrityError or LinkError.
        """
        what = f"image {self._called(reference)}"
        target = f"manifests/{reference}"
        with self._answer(target, {"Accept": manifests.ACCEPTED}, what) as response:
            self._require(response, what, _OK)
            data = self._whole(response, limit_bytes, what)
            media_type = response.headers.get_content_type()
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if ":" in reference and reference != digest:
            raise IntegrityError(what, wanted=reference, got=digest)
        return Document(digest, media_type, data)

    def blob(
        self, digest: str, start: int, stop: int, *, most: int = READ_BYTES
    ) -> Generator[bytes, None, None]:
        """Yield bytes `start` up to `stop` of a blob, at most `most` at a time, as they arrive.

        Raises as `document` does (what was yielded is right all the same), NoRangesError if only
        the whole can be had. Close the generator, or exhaust it.
        """
        what = f"{digest[:19]} of {self._called()}"
        wanted = {"Range": f"bytes={start}-{stop - 1}"} if stop > start else {}
        with self._answer(f"blobs/{digest}", wanted, what) as response:
            self._require(response, what, _OK, _PARTIAL)
            if response.status == _OK and start > 0:
                raise NoRangesError(f"{what}: the image registry honours no HTTP Range")
            given = response.headers.get("Content-Range", "")
            if response.status == _PARTIAL and not given.startswith(f"bytes {start}-"):
                raise ImageAnswerError(f"{what}: asked for bytes {start}-, got {given[:80]!r}")
            left = stop - start
            while left:
                with self._lines.explaining(f"{self._name.host}/{what}"):
                    chunk = response.read1(min(left, most))
                if not chunk:
                    self._lines.close()
                    raise LinkError(f"{what}: cut {left} bytes before the end")
                left -= len(chunk)
                yield chunk

    def _called(self, reference: str = "") -> str:
        separator = "" if not reference else "@" if ":" in reference else ":"
        return f"{self._name.host}/{self._name.repository}{separator}{reference}"

    @contextlib.contextmanager
    def _answer(
        self, target: str, headers: dict[str, str], what: str
    ) -> Iterator[http.client.HTTPResponse]:
        response = self._asked(f"/v2/{self._name.repository}/{target}", headers, what)
        try:
            yield response
        finally:
            self._lines.finish(response)

    def _asked(self, path: str, headers: dict[str, str], what: str) -> http.client.HTTPResponse:
        """Return the answer behind all challenges and redirects."""
        url, told, renewed = self._url(path), self._authorization, False
        for _ in range(_MOST_STEPS):
            own = self._place_of(url) == self._place_of(self._url(path))
            said = {"Authorization": told} if told and own else {}
            response = self._get(url, {**headers, **said})
            url = self._url(path) if own else url
            if response.status == _UNAUTHORIZED and own:
                challenge = challenges.read(response.headers.get_all("WWW-Authenticate") or [])
                self._lines.finish(response)
                if renewed or challenge is None:
                    raise self._denied(what)
                told, renewed = self._introduction(challenge, what), True
                self._authorization = told
            elif response.status in _REDIRECTS:
                location = response.headers.get("Location", "")
                self._lines.finish(response)
                url = urllib.parse.urljoin(url, location)
            else:
                return response
        raise ImageAnswerError(f"{what}: the image registry sends us from place to place")

    def _get(self, url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
        """Ask; the first answer tells which scheme an insecure registry speaks."""
        if len(self._schemes) > 1:
            with contextlib.suppress(LinkError):
                response = self._lines.get(url, headers)
                self._schemes = ["https"]
                return response
            response = self._lines.get("http" + url.removeprefix("https"), headers)
            self._schemes = ["http"]
            return response
        return self._lines.get(url, headers)

    def _url(self, path: str) -> str:
        return f"{self._schemes[0]}://{self._name.server}{path}"

    @staticmethod
    def _place_of(url: str) -> str:
        return urllib.parse.urlsplit(url).netloc

    def _introduction(self, challenge: Challenge, what: str) -> str:
        """Return what to say of ourselves; raise DeniedError if nothing helps."""
        if challenge.scheme == "basic":
            if self._credentials is None:
                raise self._denied(what)
            return _basic(self._credentials)
        asked = challenge.parameters
        scope = asked.get("scope") or f"repository:{self._name.repository}:pull"
        query = {"service": asked.get("service", ""), "scope": scope}
        realm = asked.get("realm", "")
        separator = "&" if "?" in realm else "?"
        url = f"{realm}{separator}{urllib.parse.urlencode({k: v for k, v in query.items() if v})}"
        said = {"Authorization": _basic(self._credentials)} if self._credentials else {}
        response = self._lines.get(url, said)
        try:
            if response.status in {_UNAUTHORIZED, _FORBIDDEN}:
                raise self._denied(what)
            self._require(response, f"a token for {what}", _OK)
            return f"Bearer {_token(self._whole(response, _MAX_TOKEN_BYTES, what))}"
        finally:
            self._lines.finish(response)

    def _denied(self, what: str) -> DeniedError:
        who = "" if self._credentials is None else self._credentials.username
        return DeniedError(what, host=self._name.host, username=who)

    def _require(self, response: http.client.HTTPResponse, what: str, *wanted: int) -> None:
        status = response.status
        if status in wanted:
            return
        answer = f"{what}: {self._name.host} answers {status} {response.reason}"
        if status == _NOT_FOUND:
            raise AbsentImageError(f"{what}: {self._name.host} has none: manifest unknown")
        if status in {_UNAUTHORIZED, _FORBIDDEN}:
            raise self._denied(what)
        if status >= _SERVER_ERROR or status in _WAITING_HELPS:
            raise LinkError(answer)
        raise ImageAnswerError(answer)

    def _whole(self, response: http.client.HTTPResponse, limit_bytes: int, what: str) -> bytes:
        body = bytearray()
        with self._lines.explaining(f"{self._name.host}/{what}"):
            while chunk := response.read1(READ_BYTES):
                body += chunk
                if len(body) > limit_bytes:
                    raise ImageAnswerError(f"{what}: more than {limit_bytes} bytes")
        if response.length:
            raise LinkError(f"{what}: cut {response.length} bytes before the end")
        return bytes(body)


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode('ascii')}"


def _token(data: bytes) -> str:
    try:
        told = json.loads(data)
        token = told.get("token") or told.get("access_token")
    except (ValueError, AttributeError):
        token = None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        # Without its content: it may be half a token.
        raise ImageAnswerError("the image registry's token server gives no token")
    return token
