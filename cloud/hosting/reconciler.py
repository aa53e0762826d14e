"""Brings one service nearer to what it shall be: one pass, from what is durable and what is there.

    read ─► images ─► apply ─► observe ─► decide ─► save        save ─► (next pass) ─► apply

Each pass begins from nothing but the database and the target, and saves what it decided before
anything is done about it. So it may be killed at any line: the next pass, in this process or
another, goes on from there. Nothing is saved that somebody changed meanwhile.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field

from cloud.hosting import saving, sightings, wishes
from cloud.hosting.board import View
from cloud.hosting.builds import Build, Builds
from cloud.hosting.errors import TargetError, UnreachableError
from cloud.hosting.opening import Targets
from cloud.hosting.rollout import decide
from cloud.hosting.sight import Decision, Seen
from cloud.hosting.targets import Condition, Observed, Target, Wish
from cloud.hosting.wishes import Snapshot
from cloud.registry.serving import removal, rows, runs
from cloud.services import Services
from runtime.gateway.config import Status

log = logging.getLogger(__name__)

BUSY_S = 2.0
"""How soon to look again while something is under way."""
IDLE_S = 15.0
AGAIN_S = 10.0
"""How soon to tell the target again what it was told, while it is not yet so."""
REPAIR_S = 60.0
"""The same when all is well: what nobody can see was changed is then put back."""
DEGRADED_S = 5.0
"""Trouble is told of when it has lasted so long."""


@dataclass
class _Memory:
    """What is remembered of a service between passes; losing it costs nothing but some calls."""

    applied: int = 0
    """Generation."""
    applied_at: float = float("-inf")
    degraded_since: float | None = None
    refused: str = ""
    lost: set[int] = field(default_factory=set)
    """Revisions whose image is made anew."""


@dataclass(frozen=True)
class _Images:
    """How far the images are that a service needs."""

    gateway: str | None
    broken: dict[int, str]
    doing: str


@dataclass
class Reconciler:
    """Does passes; several threads may, each for another service."""

    services: Services
    targets: Targets
    builds: Builds
    _memories: dict[str, _Memory] = field(default_factory=dict)

    def reconcile(self, name: str) -> float | None:
        """Do one pass; return after how many seconds to look again, None: it is gone.

        Raises TargetError (and what else is wrong), after which `reconcile` is simply called again.
        """
        with self.services.reading() as session:
            found = wishes.snapshot(session, name)
        if found is None:
            self._memories.pop(name, None)
            self.services.board.forget(name)
            return None
        if found.row.deleted_at is not None:
            return self._remove(found)
        images = self._images(found)
        if images is None:
            return 0.0
        target = self.targets.of(found.place)
        memory = self._memories.setdefault(name, _Memory())
        observed = self._apply_and_observe(target, found, images, memory)
        statuses = _statuses(target, name)
        now = self.services.clock.now()
        seen = sightings.see(
            observed,
            statuses,
            generation=found.generation,
            images=found.images,
            broken=images.broken,
            trouble=memory.refused,
        )
        mending = self._mend_images(found, images, observed, memory)
        decision = decide(found.state, seen, now)
        told = self._condition(memory, found.row.condition, observed)
        changed = self._save(found, decision, seen, told)
        waiting = ", ".join(filter(None, (decision.waiting, images.doing, mending)))
        self.services.board.put(
            name, View(observed, statuses, now, trouble=memory.refused, waiting=waiting)
        )
        return 0.0 if changed else _look_in(found, decision, observed)

    def blind(self, name: str) -> None:
        """Decide what can be decided while the target does not answer: that an image is broken."""
        with self.services.reading() as session:
            found = wishes.snapshot(session, name)
        if found is None or found.row.deleted_at is not None or found.state.rollout is None:
            return
        images = self._images(found)
        if images is None:
            return
        seen = sightings.blind(images=found.images, broken=images.broken, trouble="")
        self._save(found, decide(found.state, seen, self.services.clock.now()), seen, None)

    def _remove(self, found: Snapshot) -> float | None:
        """Remove all that was made; the name is free when the target says that nothing is left."""
        target, name = self.targets.of(found.place), found.row.name
        target.delete(name)
        observed = target.observe(name)
        if observed.condition is not Condition.ABSENT:
            waiting = sightings.reasons_text(observed.reasons) or "it is being removed"
            now = self.services.clock.now()
            self.services.board.put(name, View(observed, (), now, waiting=waiting))
            return BUSY_S
        with self.services.transaction() as session:
            row = rows.find(session, name)
            if row is not None and row.deleted_at is not None:
                removal.removed(session, row, now=self.services.clock.now())
        return 0.0

    def _images(self, found: Snapshot) -> _Images | None:
        """Ask for what is missing; None: something new is there, and was saved."""
        gateway = self.builds.gateway(found.place)
        missing = {
            each.number: self.builds.bundle(wishes.wanted_image(found, each))
            for each in found.revisions
            if each.image is None
        }
        there = {number: build for number, build in missing.items() if build.image is not None}
        if there:
            self._save_images(found, there)
            return None
        broken = {number: build.broken for number, build in missing.items() if build.broken}
        if gateway.broken:
            broken |= dict.fromkeys(missing, f"the gateway's image: {gateway.broken}")
        doing = [build.doing for build in missing.values() if build.doing]
        if gateway.image is None:
            doing.append(f"the gateway's image: {gateway.broken or gateway.doing or 'being made'}")
        image = None if gateway.image is None else gateway.image.reference
        return _Images(image, broken, ", ".join(doing))

    def _save_images(self, found: Snapshot, there: Mapping[int, Build]) -> None:
        with self.services.transaction() as session:
            row = rows.find(session, found.row.name)
            if row is None or row.first_number != found.row.first_number:
                return
            for number, build in there.items():
                made, image = rows.revision(session, row, number), build.image
                assert image is not None, "chosen so"
                made.image, made.image_digest = image.reference, image.digest
                session.add(made)
            row.generation += 1
            rows.touch(session, row)

    def _apply_and_observe(
        self, target: Target, found: Snapshot, images: _Images, memory: _Memory
    ) -> Observed:
        """Tell the target what shall be, if it does not know or it is not so; return what is."""
        observed = target.observe(found.row.name)
        if images.gateway is None or not found.images:
            return observed
        wish = wishes.wish(found, images.gateway, self.services.sealer)
        if not self._must_tell(wish, observed, memory):
            return observed
        drift = sightings.drifted(observed)
        if drift:
            log.warning("service drifted", extra={"service": wish.service, "what": drift})
        memory.applied_at = self.services.clock.monotonic()
        try:
            target.apply(wish)
        except UnreachableError:
            raise
        except TargetError as error:
            # Refused: what is there goes on, and is looked at.
            if memory.refused != str(error):
                log.warning("target refused", extra={"service": wish.service, "why": str(error)})
            memory.refused = str(error)
        else:
            memory.applied, memory.refused = wish.generation, ""
        return target.observe(wish.service)

    def _must_tell(self, wish: Wish, observed: Observed, memory: _Memory) -> bool:
        if memory.refused:
            pause_s = AGAIN_S
        elif memory.applied != wish.generation or sightings.must_mend(observed, wish):
            return True
        else:
            pause_s = REPAIR_S if sightings.settled(observed, wish) else AGAIN_S
        return self.services.clock.monotonic() >= memory.applied_at + pause_s

    def _mend_images(
        self, found: Snapshot, images: _Images, observed: Observed, memory: _Memory
    ) -> str:
        """Have images made anew that the engine has lost; return what is done about it.

        Meanwhile revisions keep the names of theirs: what still runs of them goes on.
        """
        if images.gateway and sightings.gateway_image_gone(observed, images.gateway):
            self.builds.forget(found.place)
        gone = sightings.images_gone(observed)
        doing, other = [], {}
        for each in found.revisions:
            wanted, number = wishes.wanted_image(found, each), each.number
            if number in gone and number in found.images - memory.lost:
                self.builds.forget(wanted)
                memory.lost.add(number)
            if number not in memory.lost:
                continue
            build = self.builds.bundle(wanted)
            if build.image is None:
                doing.append(
                    f"r{number}: {build.broken or build.doing or 'its image is made anew'}"
                )
                continue
            memory.lost.discard(number)
            memory.applied = 0  # the target is told again, now that it can do it
            if build.image.reference != each.image:
                other[number] = build
        if other:
            self._save_images(found, other)
        return ", ".join(doing)

    def _condition(self, memory: _Memory, told: str, observed: Observed) -> str | None:
        """Return what is to be told of how it is; None: nothing new."""
        now = self.services.clock.monotonic()
        if observed.condition in {Condition.DEGRADED, Condition.FAILING}:
            if memory.degraded_since is None:
                memory.degraded_since = now
            lasted = now - memory.degraded_since >= DEGRADED_S
            return saving.DEGRADED if lasted and told == saving.READY else None
        memory.degraded_since = None
        return (
            saving.READY if observed.condition is Condition.READY and told != saving.READY else None
        )

    def _save(self, found: Snapshot, decision: Decision, seen: Seen, condition: str | None) -> bool:
        """Save what was decided and seen; say whether there was anything to save."""
        shares = sightings.shares(found.state.traffic, seen, found.shares)
        moved = shares is not None and shares != found.shares
        if decision.state == found.state and not moved and condition is None:
            return False
        now = self.services.clock.now()
        with self.services.transaction() as session:
            row = rows.find(session, found.row.name)
            if row is None or not found.same(row):
                return True
            if moved and shares is not None:
                runs.note(session, row, shares, now=now)
            if condition is not None:
                saving.tell_condition(session, row, condition, seen, now)
            saving.take_over(session, row, decision, now)
        for note in decision.notes:
            log.info("service moved", extra={"service": found.row.name, "kind": note.kind})
        return True


def _statuses(target: Target, name: str) -> tuple[Status, ...]:
    """Return what gateways say; that none can be asked is no reason to decide nothing else."""
    try:
        return target.statuses(name)
    except TargetError as error:
        log.info("gateways not asked", extra={"service": name, "why": str(error)})
        return ()


def _look_in(found: Snapshot, decision: Decision, observed: Observed) -> float:
    """Return how soon to look again."""
    calm = (
        decision.state.rollout is None
        and observed.condition is Condition.READY
        and observed.generation == found.generation
        and {each.number for each in observed.revisions} == decision.state.wanted
    )
    look_s = IDLE_S if calm else BUSY_S
    return look_s if decision.look_in_s is None else max(0.0, min(look_s, decision.look_in_s))
