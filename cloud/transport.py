"""Calls to the registry: keys, trust, retries, problems. What may be called is in cloud.client."""

import contextlib
import functools
import ssl
import threading
import urllib.parse
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Self, TypeVar

import httpx2

from cloud import schema
from cloud.errors import AbsentError, ClientError, UnreachableError
from runtime import tls
from runtime.errors import IntegrityError
from runtime.retry import Backoff

TIMEOUT_S = 30.0
ATTEMPTS = 5
FIRST_PAUSE_S = 0.5
MOST_PAUSE_S = 8.0
PAGE = 200
IDEMPOTENCY_KEY = "Idempotency-Key"
_NOT_FOUND = 404

Answer = TypeVar("Answer", bound=schema.Answer)


class Transport:
    """One registry, with one key. Not for use by several threads at once.

    Every call raises UnreachableError when nobody answers, AbsentError or ClientError when the
    registry refuses.
    """

    def __init__(
        self, url: str, key: str, ca_pem: str | None, *, timeout_s: float, attempts: int
    ) -> None:
        """Trust `ca_pem` alone, or without one what this machine trusts. Connects when used."""
        tls.parse_url(url)
        context = (
            ssl.create_default_context() if ca_pem is None else tls.client_context(ca_pem=ca_pem)
        )
        self._url, self._attempts = url.rstrip("/"), attempts
        self._key, self._ca_pem, self._timeout_s = key, ca_pem, timeout_s
        self._pause = threading.Event()
        self.http = httpx2.Client(
            base_url=f"{self._url}/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            verify=context,
            timeout=timeout_s,
        )

    @functools.cached_property
    def outside(self) -> httpx2.Client:
        """What talks to others, where the registry redirects to: without the key, on TLS as
        this machine trusts it.
        """
        return httpx2.Client(timeout=self._timeout_s, verify=ssl.create_default_context())

    def another(self, stopping: threading.Event) -> Self:
        """Return a transport to the same registry, for another thread.

        Once `stopping` is set, it does not wait before it tries again.
        """
        made = type(self)(
            self._url,
            self._key,
            self._ca_pem,
            timeout_s=self._timeout_s,
            attempts=self._attempts,
        )
        made._pause = stopping  # noqa: SLF001 - one of us
        return made

    def close(self) -> None:
        """Close the connections."""
        self.http.close()
        if "outside" in vars(self):
            self.outside.close()

    def get(self, path: str, kind: type[Answer], /, **query: Any) -> Answer:
        """Return what is there; query values that are None are left out."""
        answer = self.call("GET", path, params=_given(query))
        return kind.model_validate_json(answer.content)

    def pages(
        self, path: str, kind: type[schema.Page[Answer]], /, **query: Any
    ) -> Iterator[Answer]:
        """Yield all items of a list, asking for one page after the other."""
        cursor: str | None = None
        while True:
            page = self.get(path, kind, limit=PAGE, cursor=cursor, **query)
            yield from page.items
            cursor = page.next
            if cursor is None:
                return

    def post(
        self,
        path: str,
        kind: type[Answer],
        body: schema.Request | None = None,
        *,
        again: bool = True,
    ) -> Answer:
        """Send a request; not `again`: it is not tried again though nobody answered."""
        json = None if body is None else body.model_dump()
        return kind.model_validate_json(self.call("POST", path, again=again, json=json).content)

    def call(
        self, method: str, path: str, *, again: bool | None = None, **request: Any
    ) -> httpx2.Response:
        """Return the answer to one call; `again` as in `post`, None: as its method promises.

        A POST carries an Idempotency-Key of its own, so that the registry does it once however
        often it is sent.
        """
        if again is None:
            again = method in {"GET", "HEAD", "PUT", "POST"}
        if method == "POST":
            request["headers"] = {IDEMPOTENCY_KEY: str(uuid.uuid4()), **request.get("headers", {})}
        return self.attempt(lambda: self.http.request(method, path, **request), again=again)

    @contextlib.contextmanager
    def lines(
        self, path: str, *, headers: Mapping[str, str], silence_s: float, **query: Any
    ) -> Iterator[Iterator[str]]:
        """Give the lines of an answer as they come; raises httpx2.TransportError when they break.

        `silence_s`: how long nothing may come.
        """
        timeout = httpx2.Timeout(self._timeout_s, read=silence_s)
        asked = self.http.stream(
            "GET", path, headers=headers, params=_given(query), timeout=timeout
        )
        with asked as answer:
            if not answer.is_success:
                answer.read()
            yield _accepted(answer).iter_lines()

    def attempt(self, once: Callable[[], httpx2.Response], *, again: bool) -> httpx2.Response:
        """Return the answer that `once` gets, calling it more often where that may help."""
        backoff = Backoff(FIRST_PAUSE_S, MOST_PAUSE_S)
        left = self._attempts
        while True:
            left -= 1
            try:
                return _accepted(once())
            except httpx2.TransportError as error:
                unsent = isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout)
                if left == 0 or _is_refusal(error) or not (again or unsent):
                    raise self._unreachable(error) from error
            except (ClientError, IntegrityError) as error:
                if left == 0 or not (again and error.retryable):
                    raise
            self._pause.wait(backoff.next())

    def _unreachable(self, error: httpx2.TransportError) -> UnreachableError:
        why = str(error) or type(error).__name__
        hint = (
            ": give its CA at `packhorse login` (--ca or --ca-fingerprint)"
            if _is_refusal(error)
            else ": is `packhorse serve` running there?"
        )
        return UnreachableError(f"registry: {self._url} could not be reached ({why}){hint}")


def path_of(pattern: str, *values: str) -> str:
    """Return a path with these values in it, whatever characters they have."""
    return pattern.format(*(urllib.parse.quote(value, safe="") for value in values))


def _given(query: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in query.items() if value is not None}


def _is_refusal(error: httpx2.TransportError) -> bool:
    """Say whether the other side answered, but cannot be trusted: waiting does not help."""
    return "CERTIFICATE_VERIFY_FAILED" in str(error)


def _accepted(answer: httpx2.Response) -> httpx2.Response:
    if answer.is_success:
        return answer
    try:
        problem = answer.json()
    except ValueError:
        problem = {"detail": f"{answer.url.path}: HTTP {answer.status_code} without a reason"}
    if not isinstance(problem, dict):
        problem = {"detail": f"{answer.url.path}: HTTP {answer.status_code}"}
    kind = AbsentError if answer.status_code == _NOT_FOUND else ClientError
    raise kind(answer.status_code, problem)
