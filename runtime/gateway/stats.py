"""What the gateway counts. Plain numbers, changed on the event loop alone."""

from bisect import bisect_left
from dataclasses import dataclass, field

from runtime.gateway.config import LATENCY_BOUNDS_MS, RevisionStats


@dataclass
class RevisionCounts:
    """Of one revision, since the gateway started."""

    requests: int = 0
    errors: int = 0
    latency_ms_sum: float = 0.0
    latency: list[int] = field(default_factory=lambda: [0] * (len(LATENCY_BOUNDS_MS) + 1))
    compared: int = 0
    different: int = 0

    def add(self, latency_s: float, *, error: bool) -> None:
        """Count one request that is over."""
        self.requests += 1
        self.errors += error
        latency_ms = latency_s * 1000
        self.latency_ms_sum += latency_ms
        self.latency[bisect_left(LATENCY_BOUNDS_MS, latency_ms)] += 1

    def stats(self, name: str) -> RevisionStats:
        """Return them as the status shows them."""
        return RevisionStats(
            name=name,
            requests=self.requests,
            errors=self.errors,
            latency_ms=tuple(self.latency),
            compared=self.compared,
            different=self.different,
        )


@dataclass
class Stats:
    """Of the whole gateway."""

    revisions: dict[str, RevisionCounts] = field(default_factory=dict)
    answers: dict[int, int] = field(default_factory=dict)
    """HTTP status to number, whoever gave it."""
    rpcs: dict[str, int] = field(default_factory=dict)
    """gRPC status to number."""
    in_hand: int = 0
    gone: int = 0
    """Clients that went away before their answer."""
    reloads: int = 0
    reload_failures: int = 0

    def of(self, revision: str) -> RevisionCounts:
        """Return a revision's counts."""
        return self.revisions.setdefault(revision, RevisionCounts())

    def answered(self, status: int) -> None:
        """Count an HTTP answer."""
        self.answers[status] = self.answers.get(status, 0) + 1

    def rpc_ended(self, status: str) -> None:
        """Count a gRPC answer."""
        self.rpcs[status] = self.rpcs.get(status, 0) + 1
