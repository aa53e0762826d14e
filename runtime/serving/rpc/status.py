"""What gRPC calls each of our errors."""

import logging
from typing import Any, NoReturn

import grpc

from runtime.errors import InvalidError, ModelError, PackhorseError
from runtime.serving.errors import (
    BusyError,
    CodecError,
    DeadlineError,
    NotReadyError,
    UnknownModelError,
)

log = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]

STATUS: dict[type[PackhorseError], grpc.StatusCode] = {
    InvalidError: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownModelError: grpc.StatusCode.NOT_FOUND,
    NotReadyError: grpc.StatusCode.UNAVAILABLE,
    CodecError: grpc.StatusCode.UNAVAILABLE,
    BusyError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineError: grpc.StatusCode.DEADLINE_EXCEEDED,
    ModelError: grpc.StatusCode.INTERNAL,
}

RETRY_AFTER = "retry-after"
"""Trailing metadata: seconds after which another try may be worth it."""


def of(error: PackhorseError) -> grpc.StatusCode:
    """Return the code of an error."""
    for kind, code in STATUS.items():
        if isinstance(error, kind):
            return code
    log.error("unforeseen error", exc_info=error)
    return grpc.StatusCode.INTERNAL


async def refuse(context: Context, error: PackhorseError) -> NoReturn:
    """End a call with an error."""
    after = getattr(error, "retry_after_s", None)
    metadata = () if after is None else ((RETRY_AFTER, f"{after:g}"),)
    await context.abort(of(error), str(error), metadata)
