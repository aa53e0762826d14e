"""What gRPC calls each of our errors."""

import logging
from collections.abc import Sequence

import grpc

from runtime.errors import InvalidError, ModelError, PackhorseError
from runtime.serving.errors import BusyError, DeadlineError, NotReadyError, UnknownModelError

log = logging.getLogger(__name__)

Metadata = Sequence[tuple[str, str]]

STATUS: dict[type[PackhorseError], grpc.StatusCode] = {
    InvalidError: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownModelError: grpc.StatusCode.NOT_FOUND,
    NotReadyError: grpc.StatusCode.UNAVAILABLE,
    BusyError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    ModelError: grpc.StatusCode.INTERNAL,
}

RETRY_AFTER = "retry-after"
"""Trailing metadata: seconds after which it may be worth another try."""


def of(error: PackhorseError) -> tuple[grpc.StatusCode, str, Metadata]:
    """Return the code, the text and the trailing metadata that say what went wrong."""
    code = grpc.StatusCode.INTERNAL
    for kind, known in STATUS.items():
        if isinstance(error, kind):
            code = known
            break
    else:
        log.error("unforeseen error", exc_info=error)
    after = getattr(error, "retry_after_s", None)
    metadata = () if after is None else ((RETRY_AFTER, f"{after:g}"),)
    return code, str(error), metadata
