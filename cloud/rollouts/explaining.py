"""Why a device runs what it runs, and what blocks the next. Unknown is never shown as healthy."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlmodel import Session, col, select

from cloud import shapes, tables
from cloud.registry import desired, devices, explain, intents
from cloud.registry.explain import Presence
from cloud.registry.intents import Contest, Intent, Target
from cloud.rollouts import reasons, troubles
from cloud.rollouts.state import FAILURES, Standing
from cloud.services import Services
from runtime.messages import ModuleReport, Phase
from runtime.topics import DeviceId

MOST_PAST = 3
_UNDONE = [
    standing.value
    for standing in (
        *FAILURES,
        Standing.NOT_REACHED,
        Standing.REVERTING,
        Standing.REVERTED,
        Standing.REVERT_UNSEEN,
    )
]
"""Standings of devices that a rollout did not leave with what it brought."""


def explanation(session: Session, services: Services, device: str) -> shapes.Explanation:
    """Return the explanation; raise NotFoundError for a device that never enrolled."""
    row = devices.get(session, device)
    now, lease_s = services.clock.now(), services.settings.lease_s
    heard = explain.presence(
        online=row.online, last_seen=row.last_seen, lease_s=row.lease_s or lease_s, now=now
    )
    modules = _Modules(session, services, row, heard, now).answers()
    return shapes.Explanation(
        device=row.id,
        presence=heard.value,
        presence_reason=_presence(row, heard, now),
        age_s=None if row.reported_at is None else max(0.0, now - row.reported_at),
        healthy=heard is Presence.ONLINE
        and row.revoked_at is None
        and row.reported is not None
        and all(each.verdict == "running" for each in modules),
        modules=modules,
    )


def _presence(row: tables.Device, heard: Presence, now: float) -> str:
    if row.revoked_at is not None:
        return "revoked: it may not connect"
    if row.last_seen is None:
        return "it has never connected"
    ago = explain.duration(max(0.0, now - row.last_seen))
    return f"last heard of {ago} ago" if heard is not Presence.ONLINE else f"heard {ago} ago"


class _Standing(NamedTuple):
    """Where a device is with a deployment."""

    word: str
    reason: str
    since: float


def _as_claim(
    row: tables.Deployment, wish: Intent | None, at: _Standing, now: float
) -> shapes.Claim:
    """Return what a deployment says of a device; `wish` None: it wants nothing any more."""
    return shapes.Claim(
        deployment=row.id,
        rollout=row.rollout,
        name=row.name if wish is None else wish.called,
        priority=row.priority if wish is None else wish.priority,
        model=row.model,
        version=row.version,
        standing=at.word,
        reason=at.reason,
        age_s=max(0.0, now - at.since),
    )


class _Modules:
    """The modules of one device."""

    def __init__(
        self,
        session: Session,
        services: Services,
        row: tables.Device,
        heard: Presence,
        now: float,
    ) -> None:
        self._session, self._services, self._row = session, services, row
        self._heard, self._now = heard, now
        self._target: Target = desired.target(row)
        report = devices.reported(row)
        self._said: Mapping[str, ModuleReport] = {
            each.name: each for each in (() if report is None else report.modules)
        }
        self._generation = 0 if report is None else report.generation
        self._wishes = [w for w in desired.active(session) if w.selects(self._target)]
        self._rows = self._deployments()
        self._standings = self._of_rollouts()

    def answers(self) -> list[shapes.ModuleAnswer]:
        """Return one answer for each module that is wanted, claimed or said to be there."""
        state = desired.read(self._session, DeviceId(self._row.id))
        wanted = {spec.name: spec for spec in (() if state is None else state.modules)}
        lags = state is not None and self._generation < state.generation
        contests = intents.contests(self._target, self._wishes)
        names = {*wanted, *self._said, *(each.spec.name for each in self._wishes)}
        found = []
        for name in sorted(names):
            spec, said = wanted.get(name), self._said.get(name)
            claims = [each for each in self._wishes if each.spec.name == name]
            verdict, reason = self._verdict(name, contests.get(name), said, lags=lags)
            found.append(
                shapes.ModuleAnswer(
                    module=name,
                    running=self._running(said),
                    wanted="nothing" if spec is None else f"{spec.model}:{spec.version}",
                    verdict=verdict,
                    reason=reason,
                    age_s=self._row.reported_at and max(0.0, self._now - self._row.reported_at),
                    claims=[
                        *(self._claim(each, contests.get(name)) for each in claims),
                        *self._past(name, contests.get(name)),
                    ],
                )
            )
        return found

    def _running(self, said: ModuleReport | None) -> str:
        if self._row.reported is None:
            return "unknown"
        if said is None or said.running is None:
            return "nothing"
        return f"{said.running.model}:{said.running.version}"

    def _verdict(
        self, name: str, contest: Contest | None, said: ModuleReport | None, *, lags: bool
    ) -> tuple[str, str]:
        """Return one word and the sentence to it."""
        unheard = "" if self._heard is Presence.ONLINE else "as last reported: it is not heard of"
        if contest is not None and contest.winner is None:
            rivals = " and ".join(each.spec.deployment for each in contest.leaders)
            text = f"{rivals} claim it with the same priority: cancel one, or give one a priority"
            return "conflict", text
        if self._row.reported is None:
            return "unknown", "the device has never reported"
        if contest is None:
            return self._unwanted(name, said)
        winner = contest.winner
        spec = winner.spec_for(self._target) if winner is not None else None
        speaks = said is not None and spec is not None and said.deployment == spec.deployment
        if said is None or not speaks or lags:
            return "waiting", unheard or "told; the device has not taken it over yet"
        if said.phase is Phase.RUNNING:
            return ("unknown", unheard) if unheard else ("running", "it runs what it shall")
        text = "; ".join(filter(None, (said.reason, unheard)))
        return said.phase.value, text or "under way"

    def _unwanted(self, name: str, said: ModuleReport | None) -> tuple[str, str]:
        waits = [each for each in self._wishes if each.spec.name == name]
        if waits:
            return "waiting", "its turn in a rollout has not come: see the claims"
        return ("removing", "no deployment wants it") if said else ("nothing", "nobody wants it")

    def _claim(self, wish: Intent, contest: Contest | None) -> shapes.Claim:
        row = self._rows[wish.spec.deployment]
        return _as_claim(row, wish, self._standing(wish, contest, row), self._now)

    def _standing(self, wish: Intent, contest: Contest | None, row: tables.Deployment) -> _Standing:
        if not wish.admits(self._target):
            return self._waiting(row)
        leaders: Sequence[Intent] = () if contest is None else contest.leaders
        if wish not in leaders:
            ruling = ", ".join(each.spec.deployment for each in leaders)
            return _Standing("outdone", f"by {ruling}: a higher priority, or newer", row.created_at)
        if len(leaders) > 1:
            return _Standing(
                "conflict", "the device keeps what it has until somebody decides", row.created_at
            )
        rollout = self._rollout(row.rollout or "")
        why = ["the highest priority, the newest of its name"]
        why += [] if rollout is None else troubles.said(rollout, self._now)
        return _Standing("decides", "; ".join(why), row.created_at)

    def _waiting(self, row: tables.Deployment) -> _Standing:
        """Return the standing of a device whose turn has not come, or is over."""
        member = self._standings.get(row.rollout or "")
        rollout = self._rollout(row.rollout or "")
        if member is None:
            why = ["it has joined", *self._blocked(rollout)]
            return _Standing("waiting", "; ".join(why), row.created_at)
        why = self._blocked(rollout)
        if member.reason:
            stuck = [] if rollout is None else troubles.said(rollout, self._now)
            why = [member.reason, *stuck]
        return _Standing(member.standing, "; ".join(why) or "its wave has not come", member.since)

    def _rollout(self, rollout: str) -> tables.Rollout | None:
        query = select(tables.Rollout).where(tables.Rollout.id == rollout)
        return self._session.exec(query).one_or_none()

    def _blocked(self, found: tables.Rollout | None) -> list[str]:
        if found is None:
            return []
        lease_s = self._services.settings.lease_s
        told = reasons.blocked(self._session, found, lease_s=lease_s, now=self._now)
        return [f"the rollout is {found.state}", *told]

    def _past(self, name: str, contest: Contest | None) -> list[shapes.Claim]:
        """Return why what was tried since the one that decides now did not stay here."""
        winner = None if contest is None else contest.winner
        after = 0 if winner is None else winner.sequence
        row, member = tables.Deployment, tables.RolloutDevice
        query = (
            select(row, member)
            .join(member, col(member.rollout) == col(row.rollout))
            .where(member.device == self._row.id, row.module == name)
            .where(col(row.sequence) > after, col(member.standing).in_(_UNDONE))
            .where(col(row.id).not_in(list(self._rows)))
            .order_by(col(row.sequence).desc())
            .limit(MOST_PAST)
        )
        return [
            _as_claim(each, None, _Standing(was.standing, was.reason, was.since), self._now)
            for each, was in self._session.exec(query)
        ]

    def _deployments(self) -> dict[str, tables.Deployment]:
        ids = [each.spec.deployment for each in self._wishes]
        query = select(tables.Deployment).where(col(tables.Deployment.id).in_(ids))
        return {row.id: row for row in self._session.exec(query)}

    def _of_rollouts(self) -> dict[str, tables.RolloutDevice]:
        query = select(tables.RolloutDevice).where(tables.RolloutDevice.device == self._row.id)
        return {row.rollout: row for row in self._session.exec(query)}
