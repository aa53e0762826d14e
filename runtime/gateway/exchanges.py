"""What is known of one request while it goes through, and afterwards of its answer."""

from dataclasses import dataclass

from runtime.gateway.upstream import Headers


@dataclass
class Asked:
    """A request that was let in."""

    id: str
    method: str
    target: str
    """Path and query, as they came."""
    rest: bytes
    """Header lines for a replica but `Host`, and the empty line."""
    body: bytes
    number: int
    """Counted up over all requests."""

    @property
    def line(self) -> bytes:
        """The first line."""
        return f"{self.method} {self.target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")


@dataclass
class Answered:
    """An answer that was passed on whole."""

    revision: str
    status: int
    headers: Headers
    body: bytes
    latency_s: float
