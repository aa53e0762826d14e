"""What goes over gRPC: which methods, and which metadata. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

Metadata = tuple[tuple[str, "str | bytes"], ...]

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


@dataclass(frozen=True)
class Call:
    """A call that was let in."""

    method: str
    metadata: Metadata
    """For the replica."""
    request_id: str
    number: int
    timeout_s: float


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
