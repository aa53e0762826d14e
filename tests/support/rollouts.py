"""A made-up world for decisions about take-overs: what is ready, what gateways count, and time."""

from dataclasses import dataclass, field

from cloud.hosting import rollout
from cloud.hosting.sight import Decision, Seen, Sight
from cloud.hosting.state import State
from cloud.hosting.targets import Condition
from runtime.gateway.config import LATENCY_BOUNDS_MS, RevisionStats, Status

BUCKETS = len(LATENCY_BOUNDS_MS) + 1


@dataclass
class World:
    """What there is, as a test says; decisions are taken over as they come."""

    state: State
    now: float = 1000.0
    ready: set[int] = field(default_factory=set)
    half: set[int] = field(default_factory=set)
    """Some replicas answer, some do not."""
    images: set[int] = field(default_factory=set)
    broken: dict[int, str] = field(default_factory=dict)
    known: bool = True
    in_force: bool = True
    started_at: float = 1.0
    counts: dict[int, list[int]] = field(default_factory=dict)
    """By revision: requests, errors, then the latency histogram."""
    events: list[str] = field(default_factory=list)
    failed: dict[int, str] = field(default_factory=dict)
    last: Decision | None = None

    def seen(self) -> Seen:
        """Return what is seen now."""
        return Seen(
            known=self.known,
            revisions={number: self._sight(number) for number in sorted(self.state.wanted)},
            in_force=self.in_force,
            statuses=(self.status(),),
            images=frozenset(self.images),
            broken=self.broken,
        )

    def _sight(self, number: int) -> Sight:
        if number in self.half:
            return Sight(Condition.DEGRADED, 1, "one replica is lost")
        if number in self.ready:
            return Sight(Condition.READY, 1)
        return Sight(Condition.STARTING, 0, "it is starting")

    def answers(self, number: int) -> bool:
        """Say whether any replica of a revision answers."""
        return number in self.ready or number in self.half

    def status(self) -> Status:
        """Return what the gateway counts."""
        stats = [
            RevisionStats(f"r{number}", counts[0], counts[1], tuple(counts[2:]))
            for number, counts in sorted(self.counts.items())
        ]
        return Status("digits", 1, self.started_at, revisions=tuple(stats))

    def serve(
        self, requests: int, *, failing: dict[int, int] | None = None, bucket: int = 3
    ) -> None:
        """Answer requests by the weights; of 100 to a revision so many fail."""
        for number, weight in self.state.traffic.items():
            count = requests * weight // 100
            counts = self.counts.setdefault(number, [0] * (2 + BUCKETS))
            counts[0] += count
            counts[1] += count * (failing or {}).get(number, 0) // 100
            counts[2 + bucket] += count

    def tick(self) -> Decision:
        """Decide once, and take it over."""
        made = rollout.decide(self.state, self.seen(), self.now)
        self.state, self.last = made.state, made
        self.events += [note.kind.removeprefix("service.") for note in made.notes]
        self.failed |= made.failed
        return made

    def settle(self) -> None:
        """Decide until nothing changes; time stands still."""
        for _ in range(30):
            before = self.state
            self.tick()
            if self.state == before:
                return
        raise AssertionError("decisions do not end")

    def go_on(self, seconds: float) -> None:
        """Let time pass, and decide."""
        self.now += seconds
        self.settle()

    @property
    def traffic(self) -> dict[int, int]:
        """The weights."""
        return self.state.traffic

    @property
    def waiting(self) -> str:
        """What the last decision waits for."""
        return "" if self.last is None else self.last.waiting
