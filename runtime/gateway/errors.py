"""Why a request does not get a revision's answer, or not all of it.

GatewayError
├── RefusedError     the gateway answers by itself: key, limit, size, path, nobody there
├── TryError         one replica did not answer; another may
├── LateError        the request's time is over
└── BrokenOffError   an answer ended before it was whole; the client has seen its beginning
"""

import http

from runtime.errors import PackhorseError
from runtime.gateway.retries import Failure


class GatewayError(PackhorseError):
    """A request that does not go the usual way."""


class RefusedError(GatewayError):
    """What the gateway answers in place of a revision; `retry_after_s` says when to come again."""

    def __init__(
        self, status: http.HTTPStatus, text: str, *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(text)
        self.status, self.retry_after_s = status, retry_after_s

    @property
    def retryable(self) -> bool:  # type: ignore[override]  # depends on the status here
        """Whether the same request may succeed later."""
        return self.retry_after_s is not None


class TryError(GatewayError):
    """One replica did not give an answer, and nothing of one has been passed on."""

    retryable = True

    def __init__(self, failure: Failure, why: str) -> None:
        super().__init__(why)
        self.failure = failure


class LateError(GatewayError):
    """No answer within the request's time."""

    retryable = True


class BrokenOffError(GatewayError):
    """A replica ended its answer in the middle."""
