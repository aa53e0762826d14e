"""The API's own description, whole: every answer of every route, errors among them.

FastAPI knows what routes give when all goes well. What may go wrong is the same for many of them
and follows from what they take, so it is written here, once: tests/cloud/test_openapi.py sends
requests made from this description, and fails for an answer that is not in it.
"""

import http
from collections.abc import Iterator, Mapping
from typing import Any

from fastapi import FastAPI

from cloud.api import errors, idempotency
from cloud.api.routes import JSON, MAX_NAME_CHARS

BEARER = "key"
PROBLEM = {
    "type": "object",
    "description": "What went wrong (RFC 9457).",
    "required": ["type", "title", "status", "detail", "retryable"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:packhorse:problem:not-found"]},
        "title": {"type": "string", "examples": ["Not Found"]},
        "status": {"type": "integer", "minimum": 400, "maximum": 599},
        "detail": {"type": "string", "description": "What happened, and what to do."},
        "retryable": {"type": "boolean", "description": "Waiting helps."},
        "field": {"type": "string", "description": "What was not accepted."},
    },
}
_OPEN = ("/api/v1/ca", "/api/v1/enrol", "/healthz")
_METHODS = ("get", "put", "post", "patch", "delete", "head")
_KEY_PARAMETER = {
    "name": idempotency.HEADER,
    "in": "header",
    "required": False,
    "description": "The same key with the same request: done once, answered the same for 24 hours.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": idempotency.MAX_KEY_CHARS,
        "pattern": "^[!-~]+$",
    },
}


class DocumentedAPI(FastAPI):
    """An application whose description is whole."""

    def openapi(self) -> dict[str, Any]:
        """Return the description."""
        if self.openapi_schema is None:
            _complete(super().openapi())
        assert self.openapi_schema is not None, "made above"
        return self.openapi_schema


def _complete(schema: dict[str, Any]) -> None:
    parts = schema.setdefault("components", {})
    shapes = parts.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        shapes.pop(unused, None)
    shapes["Problem"] = PROBLEM
    parts["securitySchemes"] = {BEARER: {"type": "http", "scheme": "bearer"}}
    for path, method, operation in _operations(schema):
        _complete_one(path, method, operation)


def _operations(schema: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in schema["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield path, method, methods[method]


def _complete_one(path: str, method: str, operation: dict[str, Any]) -> None:
    parameters = [
        each for each in operation.get("parameters", []) if each["name"] != "authorization"
    ]
    for each in parameters:
        if each["in"] == "path" and each["schema"].get("type") == "string":
            each["schema"].setdefault("maxLength", MAX_NAME_CHARS)
    guarded = path.startswith("/api/") and path not in _OPEN
    if guarded:
        operation["security"] = [{BEARER: []}]
    if guarded and method == "post":
        parameters.append(_KEY_PARAMETER)
    operation["parameters"] = parameters
    answers = operation["responses"]
    for status in sorted(_problems(path, method, operation, guarded=guarded)):
        answers[str(status)] = _problem(status)
    if "if-none-match" in {each["name"] for each in parameters}:
        answers["304"] = {"description": "The client has this answer (If-None-Match)."}


def _problems(path: str, method: str, operation: Mapping[str, Any], *, guarded: bool) -> set[int]:
    """Return the statuses of what may go wrong."""
    names = {each["name"] for each in operation["parameters"]}
    places = {each["in"] for each in operation["parameters"]}
    body = operation.get("requestBody", {}).get("content", {})
    good = operation["responses"].get("200", operation["responses"].get("201", {}))
    rules = (
        (True, {503}),
        (guarded, {401, 403}),
        (guarded and JSON in good.get("content", {}), {406}),
        (bool("path" in places or body), {404}),  # a body may name what is not there, too
        (bool(places or body), {422}),
        (method in {"post", "put", "patch", "delete"}, {409}),
        (method in {"post", "put"}, {507}),
        (bool(body), {400, 408, 413}),
        (JSON in body, {415}),
        ("if-match" in names, {412}),
        (path.startswith("/dl/"), {403, 416}),
        (path == "/api/v1/enrol", {401, 410}),
    )
    return {status for holds, statuses in rules if holds for status in statuses}


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": http.HTTPStatus(status).phrase,
        "content": {errors.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
