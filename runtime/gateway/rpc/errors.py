"""Why a call does not end with OK."""

import http

import grpc

from runtime.gateway.errors import GatewayError, RefusedError
from runtime.gateway.rpc.calls import Metadata

Code = grpc.StatusCode

_CODES = {
    http.HTTPStatus.UNAUTHORIZED: Code.UNAUTHENTICATED,
    http.HTTPStatus.TOO_MANY_REQUESTS: Code.RESOURCE_EXHAUSTED,
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Code.RESOURCE_EXHAUSTED,
    http.HTTPStatus.GATEWAY_TIMEOUT: Code.DEADLINE_EXCEEDED,
}
_FAULTS = {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS}


class TooLargeError(GatewayError):
    """A message, or all that would have to be held, is above the limit."""


class StatusError(GatewayError):
    """The status that a call ends with, when that is not OK."""

    def __init__(self, code: Code, details: str, trailing: Metadata = ()) -> None:
        super().__init__(details)
        self.code, self.details, self.trailing = code, details, trailing

    @property
    def is_fault(self) -> bool:
        """Whether it counts as an error of the revision's."""
        return self.code in _FAULTS


def refusal(refused: RefusedError) -> StatusError:
    """Return the status for what is refused."""
    return StatusError(_CODES.get(refused.status, Code.UNAVAILABLE), str(refused))
