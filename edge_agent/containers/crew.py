"""The containers of one start: made or taken over, started in order, looked at, stopped, removed.

All methods speak to the engine and raise EngineErrors. No threads.
"""

import contextlib
import http.client
import logging
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from edge_agent.containers import judging, plan, refusals
from edge_agent.containers.judging import Standing, Streak, Verdict
from edge_agent.containers.plan import Origin
from edge_agent.workers import captured
from runtime.bundle import containers
from runtime.bundle.containers import LOCALHOST, Container, Group, Health
from runtime.containers.specs import ContainerSeen

if TYPE_CHECKING:
    from runtime.containers.engine import Engine

log = logging.getLogger(__name__)

_BAD_STATUS = 400
LOG_LINES = 500
"""Of a container, at most, that are copied at once."""


class Copied(NamedTuple):
    """Up to where a log was read: Podman tells times in whole seconds, so lines share them."""

    at: bytes = b""
    lines: int = 0
    """With that time."""


UNREAD = Copied()


def unread(lines: Sequence[bytes], copied: Copied) -> tuple[list[bytes], Copied]:
    """Return the texts of those of "TIME TEXT" that are new, and up to where it is read then."""
    found = []
    at, count = copied
    again = 0
    for line in lines:
        when, _, text = line.partition(b" ")
        if when == copied.at and again < copied.lines:
            again += 1
        elif when >= at:
            count = count + 1 if when == at else 1
            at = when
            found.append(text)
    return found, Copied(at, count)


@dataclass
class Hand:
    """One container of a crew."""

    spec: Container
    id: str
    begun_at: float | None = None
    """When it had been started, or was found running; None: it is not to run now."""
    streak: Streak | None = None
    copied: Copied = UNREAD
    """How far its own log is in the module's."""
    rests: bool = False
    """It is known not to run."""


class Crew:
    """Made empty; `enlist` fills it."""

    def __init__(self, origin: Origin, group: Group) -> None:
        """Of one bundle of one module."""
        self._origin, self._group = origin, group
        self._order = containers.in_order(group)
        self._hands: dict[str, Hand] = {}
        self.start = secrets.token_hex(plan.START_CHARS // 2)
        """What tells this start from others; that of what was taken over, if anything was."""

    @property
    def enlisted(self) -> bool:
        """Say whether its containers are there."""
        return bool(self._hands)

    @property
    def size(self) -> int:
        """Return how many containers there are to be."""
        return len(self._order)

    def enlist(self, engine: "Engine", taken: Collection[str]) -> None:
        """Take over what an agent before left of this bundle, or make containers; sweep the rest.

        `taken` are the starts of this module that others mind.
        """
        found = engine.containers(self._labels())
        mine = [seen for seen in found if seen.labels.get(plan.BUNDLE) == self._origin.bundle]
        left = plan.whole_start(self._group, mine, taken)
        self.start = left or self.start
        for seen in found:
            if seen.labels.get(plan.START) not in {*taken, self.start}:
                engine.remove(seen.id)
        names = {plan.network(self._origin, start) for start in (*taken, self.start)}
        for name in engine.networks(self._labels()):
            if name not in names:
                engine.remove_network(name)
        if left:
            self._hands = _found(self._order, mine, left)
            log.info("containers taken over", extra={"module_name": self._origin.module})
        else:
            self._make(engine)

    def advance(self, engine: "Engine", clock: Callable[[], float]) -> dict[str, Verdict]:
        """Start what may start, look at what runs; return what is thought of each that was begun.

        One whose needs are not good yet is not begun. `clock` is monotonic.
        """
        verdicts: dict[str, Verdict] = {}
        for each in self._order:
            needs = (verdicts.get(need) for need in each.needs)
            if any(need is None or need.standing is not Standing.GOOD for need in needs):
                continue
            verdicts[each.name] = self._advance(engine, self._hands[each.name], clock)
        return verdicts

    def rest(self, engine: "Engine") -> None:
        """Stop them all, keep them."""
        for each in reversed(self._order):
            hand = self._hands.get(each.name)
            if hand is not None and not hand.rests:
                engine.stop(hand.id, grace_s=each.stop_s)
                hand.begun_at, hand.rests = None, True

    def begin_anew(self) -> None:
        """Start again, without counting it, what ended while nobody could look."""
        for hand in self._hands.values():
            hand.begun_at, hand.rests = None, False

    def dismiss(self, engine: "Engine", *, kill: bool) -> None:
        """Stop and remove them all, and their network."""
        if not kill:
            self.rest(engine)
        for seen in engine.containers({**self._labels(), plan.START: self.start}):
            engine.remove(seen.id)
        engine.remove_network(plan.network(self._origin, self.start))
        self._hands.clear()

    def last_word(self, engine: "Engine", name: str) -> str:
        """Return the last line of a container's log."""
        said = engine.tail(self._hands[name].id, 3)
        return captured.last_line("\n".join(said).encode())

    def news(self, engine: "Engine") -> bytes:
        """Return what the containers have written since the last time, a name before each line."""
        found = b""
        for name, hand in self._hands.items():
            with contextlib.closing(engine.follow(hand.id, lines=LOG_LINES, follow=False)) as log:
                lines = b"".join(log).splitlines()
            fresh, hand.copied = unread(lines, hand.copied)
            found += b"".join(name.encode() + b": " + text + b"\n" for text in fresh)
        return found

    def _labels(self) -> dict[str, str]:
        return {plan.DEVICE: self._origin.device, plan.MODULE: self._origin.module}

    def _make(self, engine: "Engine") -> None:
        self._require_able(engine)
        for volume, labels in plan.volumes(self._group, self._origin).items():
            engine.make_volume(volume, labels)
        if plan.needs_network(self._group):
            network = plan.network(self._origin, self.start)
            engine.make_network(network, plan.labels(self._origin, self.start))
        hands = {}
        for each in self._order:
            name = plan.name(self._origin, self.start, each.name)
            with refusals.explained(each):
                made = engine.create(name, plan.spec(each, self._origin, self.start))
            hands[each.name] = Hand(each, made, rests=True)
        self._hands = hands

    def _require_able(self, engine: "Engine") -> None:
        if any(each.memory_mb is not None or each.gpus for each in self._order):
            able = engine.abilities()
            for each in self._order:
                refusals.require(each, limits_memory=able.limits_memory, gives_gpus=able.gives_gpus)

    def _advance(self, engine: "Engine", hand: Hand, clock: Callable[[], float]) -> Verdict:
        now = clock()  # what is seen is of then, however late the engine answers
        seen = engine.container(hand.id)
        if hand.begun_at is None and seen is not None:
            seen = _begun(engine, hand, seen)
            # A busy engine takes long to start one, which is no part of the trial.
            hand.begun_at, hand.rests = clock(), False
            asked = hand.spec.health is not None and hand.spec.health.port
            hand.streak = Streak(hand.begun_at) if asked else None
        elif hand.streak is not None and seen is not None and seen.running:
            hand.streak = _asked(hand.spec, hand.streak, seen, now)
        return judging.judge(
            hand.spec,
            seen,
            running_s=max(0.0, now - (hand.begun_at or now)),
            trial_s=self._group.trial_s,
            streak=hand.streak,
        )


def _found(order: tuple[Container, ...], seen: list[ContainerSeen], start: str) -> dict[str, Hand]:
    ids = {
        each.labels[plan.CONTAINER]: each.id
        for each in seen
        if each.labels.get(plan.START) == start
    }
    return {each.name: Hand(each, ids[each.name]) for each in order}


def _begun(engine: "Engine", hand: Hand, seen: ContainerSeen) -> ContainerSeen | None:
    """Have a container run, if it does not and has not done its work; return it as it is then."""
    if seen.state == "paused":
        engine.unpause(hand.id)
    elif seen.running or _is_done(hand.spec, seen):
        return seen
    else:
        with refusals.explained(hand.spec):
            engine.start(hand.id)
    return engine.container(hand.id)


def _is_done(each: Container, seen: ContainerSeen) -> bool:
    return each.restart == "on-failure" and seen.state == "exited" and seen.exit_code == 0


def _asked(each: Container, streak: Streak, seen: ContainerSeen, now: float) -> Streak:
    health = each.health
    if health is None or now < streak.next_at:
        return streak
    addresses = (LOCALHOST,) if each.network == "host" else seen.addresses
    if not addresses:
        return streak.noted(health, "it has no address yet", now)
    return streak.noted(health, _ask(addresses[0], health), now)


def _ask(address: str, health: Health) -> str:
    """Return why a container does not answer as it should; "": it does."""
    connection = http.client.HTTPConnection(address, health.port, timeout=health.timeout_s)
    try:
        connection.request("GET", health.path, headers={"User-Agent": "packhorse-agent"})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        return f"GET :{health.port}{health.path}: {error or type(error).__name__}"
    finally:
        connection.close()
    return "" if status < _BAD_STATUS else f"GET :{health.port}{health.path}: status {status}"
