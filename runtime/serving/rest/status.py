"""From what the server refuses to HTTP's codes: the one table."""

import http
import logging

from runtime.errors import InvalidError, ModelError, PackhorseError
from runtime.serving.errors import (
    BusyError,
    CodecError,
    DeadlineError,
    NotReadyError,
    UnknownModelError,
)
from runtime.serving.wire import answers
from runtime.serving.wire.answers import Answer
from runtime.serving.wire.errors import RefusedError
from runtime.serving.wire.head import retry_after

log = logging.getLogger(__name__)

STATUS: dict[type[PackhorseError], http.HTTPStatus] = {
    InvalidError: http.HTTPStatus.BAD_REQUEST,
    UnknownModelError: http.HTTPStatus.NOT_FOUND,
    BusyError: http.HTTPStatus.TOO_MANY_REQUESTS,
    NotReadyError: http.HTTPStatus.SERVICE_UNAVAILABLE,
    DeadlineError: http.HTTPStatus.GATEWAY_TIMEOUT,
    ModelError: http.HTTPStatus.INTERNAL_SERVER_ERROR,
    CodecError: http.HTTPStatus.INTERNAL_SERVER_ERROR,
}


def failed(error: Exception, fields: bytes = b"") -> Answer:
    """Return the answer to a request that ended in an error."""
    if isinstance(error, RefusedError):
        return answers.error(int(error.status), str(error), error.fields + fields)
    if isinstance(error, MemoryError):
        log.error("out of memory", exc_info=error)
        return answers.error(503, "out of memory: send less", retry_after(1.0) + fields)
    for kind, status in STATUS.items():
        if isinstance(error, kind):
            if isinstance(error, BusyError | NotReadyError):
                fields = retry_after(error.retry_after_s) + fields
            return answers.error(int(status), str(error), fields)
    log.error("unforeseen error", exc_info=error)
    return answers.error(500, "the server failed: its log says more", fields)
