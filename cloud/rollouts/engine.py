"""Looks after rollouts: reads, has `decide` decide, writes; one transaction for each step.

    look   one query: is there a rollout that may move, and did anything happen since?
    step   one transaction: the lease, what is there, the decision, all that follows from it

Killed anywhere, a step happened whole or not at all; the next one begins from what is there. So
nothing is done twice, and nothing is kept in memory but when to look again.
"""

import logging
import secrets
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col

from cloud import tables
from cloud.registry import events
from cloud.rollouts import decide, lease, making, rows, sights, troubles
from cloud.rollouts.state import State
from cloud.services import Change, Services
from runtime.errors import PackhorseError
from runtime.retry import Backoff

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""How often at most it looks, and how often it does so without being woken."""
MOVING_S = 2.0
"""A rollout under way is judged at least so often: time-outs and silence tell nobody."""
RESTING_S = 15.0
"""One that only waits for devices to come back, so often."""
_JOINING = (State.RUNNING.value, State.PAUSED.value, State.COMPLETE.value)


@dataclass(frozen=True)
class _Found:
    """A rollout that may move."""

    id: str
    state: str
    revision: int
    event: int
    """The newest of all events."""
    report: float
    """When the newest report came."""

    @property
    def moving(self) -> bool:
        return self.state in rows.MOVING_STATES


class Engine:
    """One for each registry; of those on one database, one works."""

    def __init__(self, services: Services, *, owner: str | None = None) -> None:
        """`owner` names this registry in the lease, as no other and no later one is called."""
        self._services = services
        self.owner = owner or secrets.token_hex(8)
        self._woken = threading.Event()
        self._judged: dict[str, tuple[_Found, float]] = {}
        self._followed = -1

    def wake(self) -> None:
        """Tell that something happened."""
        self._woken.set()

    def run(self, stopping: threading.Event) -> None:
        """Look after rollouts until `stopping`; then give the lease back."""
        self._services.notifier.subscribe(Change.EVENTS, self.wake)
        backoff = Backoff(first_s=0.2, most_s=5.0)
        while not stopping.is_set():
            try:
                self.look()
                backoff.reset()
                pause_s = LOOK_S
            except (PackhorseError, OperationalError) as error:
                log.warning("rollouts not looked after", extra={"why": str(error)})
                pause_s = backoff.next()
            # Woken at most every LOOK_S / 4: a fleet that reports must not keep it busy.
            stopping.wait(pause_s / 4)
            self._woken.wait(pause_s * 3 / 4)
            self._woken.clear()
        self.part()

    def part(self) -> None:
        """Let another registry take over at once; if that fails, it does when the lease ends."""
        try:
            with self._services.transaction() as session:
                lease.give_back(session, self.owner)
        except OperationalError as error:
            log.info("lease not given back", extra={"why": str(error)})

    def look(self) -> int:
        """Judge every rollout that may move and to which something happened; return how many."""
        now = self._services.clock.now()
        with self._services.reading() as session:
            found = self._find(session)
            due = [each for each in found if self._due(each, now)]
            renews = bool(found) and any(each.moving for each in found)
            idle = not due and not (renews and lease.renewal_due(session, self.owner, now=now))
            if idle or lease.held_by_other(session, self.owner, now=now):
                return 0
        newest = max((each.event for each in found), default=0)
        if newest != self._followed:
            self._follow(newest)
        if not due:
            with self._services.transaction() as session:
                lease.take(session, self.owner, now=now)
        for each in due:
            if self._stepped(each.id):
                self._judged[each.id] = (each, now)
        self._judged = {each.id: self._judged[each.id] for each in found if each.id in self._judged}
        return len(due)

    def _find(self, session: Session) -> Sequence[_Found]:
        row, member = tables.Rollout, tables.RolloutDevice
        newest = sa.select(sa.func.max(tables.Event.id)).scalar_subquery()
        latest = sa.select(sa.func.max(tables.Device.reported_at)).scalar_subquery()
        unsettled = sa.exists().where(
            col(member.rollout) == col(row.id),
            col(member.standing).in_(rows.UNSETTLED),
        )
        query = (
            sa.select(col(row.id), col(row.state), col(row.revision), newest, latest)
            .where(sa.or_(col(row.state).in_(rows.OPEN_STATES), unsettled))
            .order_by(col(row.sequence))
        )
        return [
            _Found(each[0], each[1], each[2], each[3] or 0, each[4] or 0.0)
            for each in session.execute(query)
        ]

    def _due(self, found: _Found, now: float) -> bool:
        judged, at = self._judged.get(found.id, (None, 0.0))
        if judged is None or now < at:
            return True
        if found.moving and found != judged:
            return True
        happened = (found.event, found.revision) != (judged.event, judged.revision)
        return happened or now - at >= (MOVING_S if found.moving else RESTING_S)

    def _follow(self, event: int) -> None:
        """Begin what moved aliases ask for."""
        now = self._services.clock.now()
        with self._services.transaction() as session:
            if lease.take(session, self.owner, now=now):
                making.follow(session, now=now)
        self._followed = event

    def _stepped(self, rollout: str) -> bool:
        """Step; one that cannot be brought further says so, and holds up no other."""
        try:
            return self.step(rollout)
        except PackhorseError as error:
            now = self._services.clock.now()
            with self._services.transaction() as session:
                if not lease.take(session, self.owner, now=now):
                    return False
                row = rows.get(session, rollout)
                troubles.note(session, row, troubles.STEP, str(error), now=now)
            return True

    def step(self, rollout: str) -> bool:
        """Bring one rollout as far as it can go now; say whether it was ours to do."""
        services = self._services
        now = services.clock.now()
        with services.transaction() as session:
            if not lease.take(session, self.owner, now=now):
                return False
            row = rows.get(session, rollout)
            if row.state in _JOINING:
                self._join(session, row, now)
            before = rows.read(session, row)
            about = sights.subject(session, row, before)
            scene = sights.scene(session, about, lease_s=services.settings.lease_s, now=now)
            _after, actions = decide.settle(before, scene, now)
            if actions:
                making.carry_out(session, row, before, actions, actor=events.REGISTRY, now=now)
            troubles.clear(session, row, troubles.STEP, now=now)
        return True

    def _join(self, session: Session, row: tables.Rollout, now: float) -> None:
        """Take in devices that the target matches by now."""
        known = rows.known(session, row.id)
        found = making.matching(session, row.document["target"])
        rows.join(session, row.id, (each for each in found if each not in known), now=now)
        session.flush()
