"""An HTTP connection that stays open between requests, to the server that was asked last."""

import contextlib
import http.client
import ssl
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, TypeVar

from runtime.errors import LinkError

Place = TypeVar("Place")
"""What tells one server from another."""


class KeptLine(Generic[Place]):
    """One at a time; for one thread."""

    def __init__(
        self, connect: Callable[[Place], http.client.HTTPConnection], *, trust: str = ""
    ) -> None:
        """Open connections by `connect`; `trust` is what to do about an untrusted certificate."""
        self._open, self._trust = connect, f": {trust}" if trust else ""
        self._connection: http.client.HTTPConnection | None = None
        self._place: Place | None = None

    def close(self) -> None:
        """Give the connection up; the next request opens another."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._place = None, None

    def get(
        self, place: Place, target: str, headers: Mapping[str, str], *, url: str
    ) -> http.client.HTTPResponse:
        """Return the answer to a GET of a path; raise LinkError, which names the `url`."""
        if place != self._place:
            self.close()
        if self._connection is not None:
            # The server may have closed a connection that lay idle: that is no trouble yet.
            with contextlib.suppress(LinkError):
                return self._exchange(self._connection, url, target, headers)
        self._connection, self._place = self._open(place), place
        return self._exchange(self._connection, url, target, headers)

    def finish(self, response: http.client.HTTPResponse) -> None:
        """Keep the connection only if nothing of this answer is left in it."""
        reusable = response.length == 0 and not response.will_close
        response.close()
        if not reusable:
            self.close()

    @contextlib.contextmanager
    def explaining(self, url: str) -> Iterator[None]:
        """Turn what can go wrong on a connection into LinkError, and drop the connection."""
        try:
            yield
        except ssl.SSLCertVerificationError as error:
            self.close()
            said = f"certificate not trusted: {error.verify_message}{self._trust}"
            raise LinkError(f"{shown(url)}: {said}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.close()
            raise LinkError(f"{shown(url)}: {str(error) or type(error).__name__}") from error

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        url: str,
        target: str,
        headers: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        with self.explaining(url):
            connection.request("GET", target, headers={"Accept-Encoding": "identity", **headers})
            return connection.getresponse()


def shown(url: str) -> str:
    """Return a URL as it may be logged: its query may be a secret."""
    return urllib.parse.urlsplit(url)._replace(query="", fragment="").geturl()
