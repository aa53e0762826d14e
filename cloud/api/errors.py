"""The rim: every error becomes a problem (RFC 9457), by one table.

{"type": "urn:packhorse:problem:token-expired", "title": "Gone", "status": 410,
 "detail": "token: it expired 12 seconds ago: run ...", "retryable": false}
"""

import http
import logging
import re
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DataError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from cloud import errors
from cloud.api import preconditions
from cloud.api.preconditions import NotModifiedError
from cloud.hosting import errors as hosting
from runtime.errors import (
    IntegrityError,
    InUseError,
    InvalidError,
    LinkError,
    ModelError,
    PackhorseError,
    SpaceError,
)

log = logging.getLogger(__name__)

STATUS: Mapping[type[PackhorseError], int] = {
    InvalidError: 422,
    IntegrityError: 422,
    SpaceError: 507,
    InUseError: 409,
    LinkError: 503,
    ModelError: 422,
    errors.NotFoundError: 404,
    errors.ConflictError: 409,
    errors.KeyReusedError: 422,
    errors.PreconditionError: 412,
    errors.UnsupportedMediaError: 415,
    errors.NotAcceptableError: 406,
    errors.BusyError: 503,
    errors.SealError: 500,
    errors.KeyRefusedError: 401,
    errors.ForbiddenError: 403,
    errors.TokenExpiredError: 410,
    errors.UrlRefusedError: 403,
    errors.TooLargeError: 413,
    errors.StoreError: 503,
    errors.ForeignDatabaseError: 500,
    errors.DatabaseError: 503,
    errors.UnfinishedError: 500,
    errors.ClientError: 502,
    errors.LoginError: 401,
    errors.GaveUpError: 409,
    errors.WaitError: 504,
    hosting.TargetError: 502,
    hosting.UnreachableError: 503,
    hosting.BuildError: 422,
}
"""Status of each class and of those below it that are not listed themselves."""

MEDIA_TYPE = "application/problem+json"
FACTS = ("field", "missing", "users", "limit_bytes", "errors", "current", "needed")
"""Attributes of an error that programs may want to read from its problem."""
CLIENT_CLOSED_REQUEST = 499


def status_of(kind: type[PackhorseError]) -> int:
    """Return the HTTP status of an error; raise KeyError for one that nobody thought of."""
    for ancestor in kind.__mro__:
        if ancestor in STATUS:
            return STATUS[ancestor]
    raise KeyError(kind)


def slug(kind: type[PackhorseError]) -> str:
    """Return the last part of an error's problem type: TokenUsedError is "token-used".

    Those of targets begin with "target": that one cannot be reached is not what clients know as
    "unreachable", the registry itself.
    """
    words = re.findall("[A-Z][a-z]*", kind.__name__.removesuffix("Error"))
    if issubclass(kind, hosting.TargetError) and words[0] != "Target":
        words.insert(0, "Target")
    return "-".join(words).lower()


def problem(
    status: int,
    kind: str,
    detail: str,
    *,
    retryable: bool = False,
    facts: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Return a problem as an answer."""
    challenge = {"WWW-Authenticate": "Bearer"} if status == http.HTTPStatus.UNAUTHORIZED else {}
    return JSONResponse(
        {
            **(facts or {}),
            "type": f"urn:packhorse:problem:{kind}",
            "title": http.HTTPStatus(status).phrase,
            "status": status,
            "detail": detail,
            "retryable": retryable,
        },
        status,
        {**challenge, **(headers or {})},
        MEDIA_TYPE,
    )


def of_error(error: PackhorseError) -> JSONResponse:
    """Return one of our errors as an answer."""
    facts = {name: getattr(error, name) for name in FACTS if hasattr(error, name)}
    status = status_of(type(error))
    waits = error.retryable and status in {http.HTTPStatus.CONFLICT, 503}
    return problem(
        status,
        slug(type(error)),
        str(error),
        retryable=error.retryable,
        facts=facts,
        headers={"Retry-After": "1"} if waits else None,
    )


def install(app: FastAPI) -> None:
    """Have every error of `app` answered with a problem."""
    app.add_exception_handler(PackhorseError, _ours)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(RequestValidationError, _of_validation)
    app.add_exception_handler(OperationalError, _of_database)
    app.add_exception_handler(PoolTimeoutError, _of_database)
    app.add_exception_handler(DataError, _of_data)
    app.add_exception_handler(OverflowError, _of_data)
    app.add_exception_handler(NotModifiedError, preconditions.of_not_modified)
    app.add_exception_handler(ClientDisconnect, _of_disconnect)
    app.add_exception_handler(Exception, _of_bug)


def _ours(_request: Request, error: Exception) -> Response:
    assert isinstance(error, PackhorseError)
    return of_error(error)


def _of_http(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    kind = http.HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return problem(error.status_code, kind, str(error.detail), headers=error.headers)


def _of_validation(_request: Request, error: Exception) -> Response:
    """Name the fields, but never show what was in them: it may be a secret."""
    assert isinstance(error, RequestValidationError)
    found = [
        {"field": ".".join(str(part) for part in each["loc"]), "message": str(each["msg"])}
        for each in error.errors()
    ]
    detail = "; ".join(f"{each['field']}: {each['message']}" for each in found[:5])
    return problem(422, "invalid", detail, facts={"errors": found})


def _of_database(_request: Request, error: Exception) -> Response:
    log.error("database failed", extra={"why": str(getattr(error, "orig", error))})
    return problem(
        503,
        "database",
        "database: it is busy, or its disk is full: try again; the registry's log says more",
        retryable=True,
        headers={"Retry-After": "5"},
    )


def _of_data(_request: Request, error: Exception) -> Response:
    """Text with NUL, which SQLite alone can hold; a number beyond its column, or beyond 64 bits."""
    why = str(getattr(error, "orig", error)).splitlines()[0]
    return problem(422, "invalid", f"request: the database cannot hold it: {why}")


def _of_disconnect(_request: Request, _error: Exception) -> Response:
    """Nobody reads this any more; the status is for the access log."""
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def _of_bug(_request: Request, _error: Exception) -> Response:
    return problem(500, "internal", "the registry has a bug: its log says more")
