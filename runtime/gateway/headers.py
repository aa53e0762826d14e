"""Which headers go through, and which end here.

What speaks of one connection ends with it (RFC 9110 7.6.1). A client's key is for the gateway
alone: no model gets to see it.
"""

from collections.abc import Iterable

from multidict import CIMultiDict

HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"expect",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
_NOT_TO_REPLICAS = HOP_BY_HOP | {
    b"authorization",
    b"content-length",
    b"host",
    b"traceparent",
    b"x-api-key",
    b"x-packhorse-revision",
    b"x-request-id",
}
_NOT_TO_CLIENTS = HOP_BY_HOP | {b"content-length", b"date", b"server", b"x-request-id"}
SERVER = "packhorse"
REVISION = "X-Packhorse-Revision"
REQUEST_ID = "X-Request-ID"


def to_replica(
    given: Iterable[tuple[bytes, bytes]], *, length: int, request_id: str, traceparent: str | None
) -> bytes:
    """Return the header lines of a request but the first and `Host`, and the empty line."""
    named = _named(given)
    lines = [
        name + b": " + value + b"\r\n"
        for name, value in given
        if (lower := name.lower()) not in _NOT_TO_REPLICAS and lower not in named
    ]
    lines.append(b"x-request-id: " + request_id.encode("ascii") + b"\r\n")
    if traceparent is not None:
        lines.append(b"traceparent: " + traceparent.encode("ascii") + b"\r\n")
    lines.append(b"content-length: " + str(length).encode("ascii") + b"\r\n\r\n")
    return b"".join(lines)


def to_client(
    given: Iterable[tuple[bytes, bytes]], *, request_id: str, revision: str
) -> "CIMultiDict[str]":
    """Return the headers of an answer; names are given in lower case. No length is among them."""
    named = _named(given)
    headers: CIMultiDict[str] = CIMultiDict(
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
        for name, value in given
        if name not in _NOT_TO_CLIENTS and name not in named
    )
    headers[REQUEST_ID] = request_id
    headers[REVISION] = revision
    headers["Server"] = SERVER
    return headers


def _named(given: Iterable[tuple[bytes, bytes]]) -> set[bytes]:
    """Return the headers that `Connection` names, which are the connection's as well."""
    return {
        token.strip().lower()
        for name, value in given
        if name.lower() == b"connection"
        for token in value.split(b",")
    }
