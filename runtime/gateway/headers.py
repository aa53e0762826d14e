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
    lines = [b"%b: %b\r\n" % (name, value) for name, value in _kept(given, _NOT_TO_REPLICAS)]
    if traceparent is not None:
        lines.append(b"traceparent: %b\r\n" % traceparent.encode("ascii"))
    tail = (request_id.encode("ascii"), length)
    lines.append(b"x-request-id: %b\r\ncontent-length: %d\r\n\r\n" % tail)
    return b"".join(lines)


def to_client(
    given: Iterable[tuple[bytes, bytes]], *, request_id: str, revision: str
) -> "CIMultiDict[str]":
    """Return the headers of an answer. No length is among them."""
    headers: CIMultiDict[str] = CIMultiDict(
        (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
        for name, value in _kept(given, _NOT_TO_CLIENTS)
    )
    headers[REQUEST_ID] = request_id
    headers[REVISION] = revision
    headers["Server"] = SERVER
    return headers


def _kept(
    given: Iterable[tuple[bytes, bytes]], dropped: frozenset[bytes]
) -> list[tuple[bytes, bytes]]:
    """Return what is not dropped, and what `Connection` does not name as the connection's."""
    kept, named = [], b""
    for name, value in given:
        lower = name.lower()
        if lower == b"connection":
            named += value.lower() + b","
        elif lower not in dropped:
            kept.append((lower, value))
    if not named:
        return kept
    tokens = {token.strip() for token in named.split(b",")}
    return [(name, value) for name, value in kept if name not in tokens]
