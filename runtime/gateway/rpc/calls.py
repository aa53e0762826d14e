"""What goes over gRPC: which methods, which metadata, and which codes for what. Pure."""

import http
from collections.abc import Iterable
from dataclasses import dataclass

import grpc

from runtime.gateway.errors import RefusedError

Metadata = tuple[tuple[str, "str | bytes"], ...]
Code = grpc.StatusCode

SERVICE = "/inference.GRPCInferenceService/"
HEALTH = "/grpc.health.v1.Health/"
UNARY = frozenset(
    SERVICE + name
    for name in (
        "ModelConfig",
        "ModelInfer",
        "ModelMetadata",
        "ModelReady",
        "ModelStatistics",
        "ServerMetadata",
    )
)
STREAMING = (f"{SERVICE}ModelStreamInfer", f"{HEALTH}Watch", "/grpc.reflection.v1")
"""Beginnings of methods that may have many messages on either side."""
LIVE = f"{SERVICE}ServerLive"
READY = f"{SERVICE}ServerReady"
CHECK = f"{HEALTH}Check"
TRUE = b"\x08\x01"
"""A message whose first field is true, or 1: {live: true}, {ready: true}, {status: SERVING}."""
NOT_READY = {READY: b"", CHECK: b"\x08\x02"}

REVISION, REQUEST_ID, TRACEPARENT = "x-packhorse-revision", "x-request-id", "traceparent"
_NOT_TO_REPLICAS = {"authorization", TRACEPARENT, "user-agent", "x-api-key", REQUEST_ID, REVISION}
_CODES = {
    http.HTTPStatus.UNAUTHORIZED: Code.UNAUTHENTICATED,
    http.HTTPStatus.TOO_MANY_REQUESTS: Code.RESOURCE_EXHAUSTED,
    http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Code.RESOURCE_EXHAUSTED,
    http.HTTPStatus.GATEWAY_TIMEOUT: Code.DEADLINE_EXCEEDED,
}
_FAULTS = {Code.UNKNOWN, Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE, Code.DATA_LOSS}


@dataclass(frozen=True)
class Call:
    """A call that was let in."""

    method: str
    metadata: Metadata
    """For the replica."""
    request_id: str
    number: int
    timeout_s: float


class StatusError(Exception):
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


def passed(metadata: Iterable[tuple[str, "str | bytes"]] | None) -> Metadata:
    """Return what goes through of the metadata of an answer."""
    return tuple((name, value) for name, value in metadata or () if not name.startswith("grpc-"))


def to_replica(given: Metadata, request_id: str, traceparent: str | None) -> Metadata:
    """Return the metadata of a request for a replica; the client's key is not among it."""
    kept = tuple((name, value) for name, value in passed(given) if name not in _NOT_TO_REPLICAS)
    traced = () if traceparent is None else ((TRACEPARENT, traceparent),)
    return (*kept, (REQUEST_ID, request_id), *traced)


def text(metadata: Metadata, name: str) -> str | None:
    """Return the first value of a name, if there is one that is text."""
    for key, value in metadata:
        if key == name and isinstance(value, str):
            return value
    return None
