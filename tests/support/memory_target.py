"""A target in memory: engine, replicas and gateway as the contract says, and all that can go wrong.

    target = MemoryTarget()
    target.failing["digits", 2] = Reason("CrashLoopBackOff", "it ends at once")
    target.serve("digits", 100, failing={"r2": 20})

A gateway has a new configuration as soon as it is told. A revision that is wished no more goes at
the apply after the one that took it out of the gateway: so it is with real ones.
"""

import hashlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from cloud.hosting.errors import BuildError, RefusedError, UnreachableError
from cloud.hosting.targets import (
    Condition,
    LogLine,
    Observed,
    ObservedRevision,
    Place,
    Question,
    Reason,
    RevisionWish,
    Wish,
)
from cloud.images.image import Image
from cloud.images.maker import Progress, Wanted
from runtime.gateway import config as configs
from runtime.gateway.config import LATENCY_BOUNDS_MS, Config, RevisionStats, Status

BUCKETS = len(LATENCY_BOUNDS_MS) + 1


@dataclass
class There:
    """What is there of one service."""

    wish: Wish
    config: Config
    """In force."""
    revisions: dict[int, RevisionWish]
    leaving: set[int] = field(default_factory=set)
    started_at: float = 1.0
    counts: dict[str, list[int]] = field(default_factory=dict)
    """By revision: requests, errors, then the latency histogram."""


class MemoryTarget:
    """Implements cloud.hosting.targets.Target."""

    def __init__(self) -> None:
        self.there: dict[str, There] = {}
        self.failing: dict[tuple[str, int], Reason] = {}
        """Replicas that never answer, and why."""
        self.starting: set[tuple[str, int]] = set()
        """Replicas that are not ready yet."""
        self.drifted: set[tuple[str, int]] = set()
        self.unreachable = ""
        self.refusing = ""
        self.deaf = False
        """Gateways take no new configuration."""
        self.calls: list[str] = []
        self.watch: Callable[[str], None] = lambda _point: None
        """Called before and after each effect: to be killed there."""
        self.lines: list[LogLine] = []
        self.foreign: set[str] = set()
        """Names that are somebody else's."""
        self.questions: list[Question] = []
        self.answer: Callable[[RevisionWish, Question], tuple[int, bytes]] = (
            lambda _revision, _question: (200, b'{"outputs": []}')
        )
        """What a revision answers."""
        self.closed = threading.Event()
        self._changes: queue.Queue[str | None] = queue.Queue()
        self._lock = threading.RLock()

    def apply(self, wish: Wish) -> None:
        """Make what is there like the wish."""
        self._enter("apply")
        if self.refusing or wish.service in self.foreign:
            raise RefusedError(self.refusing or f"{wish.service} is somebody else's")
        config = configs.decode(configs.encode(wish.gateway))  # as a gateway reads it
        with self._lock:
            wished = {each.number: each for each in wish.revisions}
            known = self.there.get(wish.service)
            if known is None:
                self.there[wish.service] = There(wish, config, wished)
            else:
                known.wish = wish
                self._remove_left(known, wished)
                known.revisions |= wished
                if not self.deaf:
                    known.config = config
            self.drifted -= {(wish.service, number) for number in wished}
        self._leave("apply")
        self._changes.put(wish.service)

    def _remove_left(self, known: There, wished: Mapping[int, RevisionWish]) -> None:
        weights = {each.name: each.weight for each in known.config.revisions}
        for number in [*known.leaving]:
            if number not in wished and not weights.get(f"r{number}"):
                known.revisions.pop(number, None)
        known.leaving = known.revisions.keys() - wished.keys()

    def observe(self, service: str) -> Observed:
        """Return what is there."""
        self._enter("observe")
        with self._lock:
            known = self.there.get(service)
            if known is None:
                return Observed(service, Condition.ABSENT)
            found = tuple(
                self._observed(service, each) for _, each in sorted(known.revisions.items())
            )
            return Observed(
                service,
                self._condition(known, found),
                endpoints=(f"http://127.0.0.1:18080/{service}",),
                revisions=found,
                gateway_wanted=1,
                gateway_ready=1,
                generation=known.config.generation,
            )

    def _observed(self, service: str, wish: RevisionWish) -> ObservedRevision:
        key, wanted = (service, wish.number), wish.scale.least
        reason = self.failing.get(key)
        condition, ready = Condition.READY, wanted
        if reason is not None:
            condition, ready = Condition.FAILING, 0
        elif key in self.starting:
            condition, ready = Condition.STARTING, 0
        return ObservedRevision(
            wish.number,
            condition,
            wanted,
            ready,
            image=wish.image,
            model=wish.model,
            version=wish.version,
            bundle=wish.bundle,
            reasons=() if reason is None else (reason,),
            drifted=("replicas",) if key in self.drifted else (),
        )

    def _condition(self, known: There, found: tuple[ObservedRevision, ...]) -> Condition:
        weights = {each.name: each.weight for each in known.config.revisions}
        having = [each for each in found if weights.get(f"r{each.number}")]
        if not having or all(each.condition is Condition.STARTING for each in having):
            return Condition.STARTING
        ready = [each for each in having if each.ready]
        if len(ready) == len(having):
            return Condition.READY
        return Condition.DEGRADED if ready else Condition.FAILING

    def services(self) -> tuple[str, ...]:
        """Return all names."""
        self._enter("services")
        return tuple(self.there)

    def statuses(self, service: str) -> tuple[Status, ...]:
        """Return what the one gateway says."""
        self._enter("statuses")
        with self._lock:
            known = self.there.get(service)
            if known is None:
                return ()
            stats = tuple(
                RevisionStats(name, counts[0], counts[1], tuple(counts[2:]))
                for name, counts in known.counts.items()
            )
            return (Status(service, known.config.generation, known.started_at, revisions=stats),)

    def serve(
        self,
        service: str,
        requests: int,
        *,
        failing: Mapping[str, int] | None = None,
        slow: Mapping[str, int] | None = None,
    ) -> None:
        """Have the gateway answer requests by its weights; of 100 to a revision so many fail.

        `slow` says in which bucket of LATENCY_BOUNDS_MS a revision's answers are; others are in 3.
        """
        with self._lock:
            known = self.there[service]
            for each in known.config.revisions:
                count = requests * each.weight // 100
                counts = known.counts.setdefault(each.name, [0] * (2 + BUCKETS))
                counts[0] += count
                counts[1] += count * (failing or {}).get(each.name, 0) // 100
                counts[2 + (slow or {}).get(each.name, 3)] += count

    def restart_gateway(self, service: str, at: float) -> None:
        """Have the gateway begin to count anew."""
        self.there[service].started_at, self.there[service].counts = at, {}

    def ask(self, service: str, revision: int, question: Question) -> tuple[int, bytes]:
        """Return what the test says that the revision answers."""
        self._enter("ask")
        with self._lock:
            known = self.there.get(service)
            if known is None or revision not in known.revisions:
                raise UnreachableError(f"{service}: nobody answers")
            shown = question.headers.get("X-API-Key", "")
            digests = {each.sha256 for each in known.config.keys}
            if not known.config.anonymous and _sha256(shown) not in digests:
                return 401, b'{"error": "no key"}'
        self.questions.append(question)
        return self.answer(known.revisions[revision], question)

    def logs(
        self, service: str, *, revision: int | None, follow: bool, tail: int
    ) -> Iterator[LogLine]:
        """Yield the lines there are, and when following those that come until closed."""
        self._enter("logs")
        if service not in self.there:
            return
        chosen = [
            line
            for line in self.lines
            if revision is None or line.replica.startswith(f"r{revision}-")
        ]
        yield from chosen[-tail:] if tail else ()
        told = len(self.lines)
        while follow and not self.closed.wait(0.01):
            yield from self.lines[told:]
            told = len(self.lines)

    def delete(self, service: str) -> None:
        """Remove what was made."""
        self._enter("delete")
        self.there.pop(service, None)
        self._leave("delete")

    def changes(self) -> Iterator[str]:
        """Yield names as things change."""
        while (name := self._changes.get()) is not None:
            yield name

    def close(self) -> None:
        """End what waits."""
        self.closed.set()
        self._changes.put(None)

    def reset(self) -> None:
        """Forget all that is there, and all that is wrong."""
        self.there.clear()
        self.failing.clear()
        self.starting.clear()
        self.drifted.clear()
        self.unreachable = self.refusing = ""
        self.deaf, self.lines, self.watch = False, [], lambda _point: None

    def wished(self, service: str, number: int) -> RevisionWish:
        """Return what is there of a revision."""
        return self.there[service].revisions[number]

    def weights(self, service: str) -> dict[str, int]:
        """Return the shares that the gateway gives."""
        return {each.name: each.weight for each in self.there[service].config.revisions}

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        self.watch(f"before {call}")
        if self.unreachable:
            raise UnreachableError(self.unreachable)

    def _leave(self, call: str) -> None:
        self.watch(f"after {call}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class MemoryMaker:
    """Implements cloud.images.maker.ImageMaker: an image is a name."""

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}
        """Bundles of which no image can be made, and why."""
        self.unreachable = ""
        self.made: list[str] = []
        self.held = threading.Event()
        """Cleared: builds wait."""
        self.held.set()

    def bundle(self, wanted: Wanted, progress: Progress) -> Image:
        """Return an image."""
        progress(f"building {wanted.model}:{wanted.version}")
        self.held.wait(20)
        if self.unreachable:
            raise UnreachableError(self.unreachable)
        if wanted.bundle in self.broken:
            raise BuildError(self.broken[wanted.bundle])
        self.made.append(f"{wanted.model}:{wanted.version}")
        return Image(f"packhorse/{wanted.bundle[:12]}", f"sha256:{wanted.bundle}", wanted.bundle)

    def gateway(self, _place: Place, progress: Progress) -> Image:
        """Return the gateway's image."""
        progress("building the gateway")
        return Image("packhorse/gateway", "sha256:" + "0" * 64, None)

    def reset(self) -> None:
        """Forget all that is wrong."""
        self.broken.clear()
        self.unreachable = ""
        self.held.set()

    def close(self) -> None:
        """Nothing is open."""


def line(replica: str, text: str, at: float | None = None) -> LogLine:
    """Return a line of a replica."""
    return LogLine(replica, text, at)


def crashed(text: str = "it ends with exit code 1") -> Reason:
    """Return why a replica does not stay up."""
    return replace(Reason("CrashLoopBackOff", text), exit_code=1)
