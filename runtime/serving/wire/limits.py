"""How much a client may ask of the server before it has shown anything for it."""

import msgspec

MIB = 1 << 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one server. Times are seconds, sizes bytes."""

    connections: int = 4096
    """At once; one more is told 503 and closed."""
    head_bytes: int = 64 * 1024
    """Of a request line and its headers."""
    body_bytes: int = 64 * MIB
    """Of one request, also once it is decompressed."""
    held_bytes: int = 128 * MIB
    """Of all bodies in memory together; past it, requests are told to come again."""
    ahead_bytes: int = 256 * 1024
    """Of requests that a client sent before it has the answer to the one in hand."""
    discard_bytes: int = MIB
    """Of a refused body that is read, so that the connection can go on."""
    head_s: float = 10.0
    """From a request's first byte to the end of its head."""
    stall_s: float = 20.0
    """Without a byte of a body coming, or of an answer being taken."""
    body_bytes_per_s: int = 4 * 1024
    """A body may come no slower than this, once `stall_s` have passed."""
    idle_s: float = 75.0
    """Between two requests. Longer than the clients' own limits, so that it is they who close."""
    linger_s: float = 5.0
    """How long an idle connection may still ask after `hold`."""
    farewell_s: float = 2.0
    """How long a client that was refused may go on sending before it is cut off."""


def body_deadline(now: float, begun: float, received: int, limits: Limits) -> float:
    """Return when a client has been too slow, if no more of its body comes until then."""
    return min(now, begun + received / limits.body_bytes_per_s) + limits.stall_s
