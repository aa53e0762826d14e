"""What devices say they run, and when they are heard from, as it becomes the history.

See cloud.registry.history, which answers questions about it.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlmodel import Session, SQLModel, col, select

from cloud import tables
from cloud.registry import events
from runtime import clock
from runtime.messages import ModuleReport, Phase, Reported, RunningVersion

REPLACED, REMOVED, REVOKED, ENROLLED = "replaced", "removed", "device revoked", "enrolled again"
STOPPED = "stopped"
ONLINE, OFFLINE = "device.online", "device.offline"


@dataclass
class Speaker:
    """A device as it was before a word of it."""

    id: str
    created_at: float
    online: bool | None
    lease_s: float | None
    last_seen: float | None
    reported: Reported | None
    reported_at: float | None


def close_all(session: Session, device: str, *, reason: str, now: float) -> None:
    """End what is known of a device: from `now` on nothing it ran counts as running."""
    query = select(tables.Run).where(
        tables.Run.device == device, col(tables.Run.until_at).is_(None)
    )
    for run in session.exec(query).all():
        _end(session, run, at=now, estimated=True, reason=reason)


def heard(
    speaker: Speaker, *, online: bool | None, lease_s: float, now: float
) -> Iterable[dict[str, Any]]:
    """Return the line of history to leave if a device is heard from again, or goes away.

    `online` is what it says of its connection; None: it said something else. `speaker` is still as
    it was before.
    """
    silent = speaker.last_seen is None or now > speaker.last_seen + (speaker.lease_s or lease_s)
    back = online is True and speaker.online is not True
    if online is False:
        if speaker.online is not False:
            yield _line(speaker, OFFLINE, {"last_seen": speaker.last_seen}, now)
    elif silent or back:
        yield _line(speaker, ONLINE, {"silent_since": speaker.last_seen}, now)


def _line(speaker: Speaker, kind: str, data: dict[str, Any], now: float) -> dict[str, Any]:
    actor = events.device_actor(speaker.id)
    return events.line(at=now, actor=actor, kind=kind, subject=speaker.id, data=data)


class Ledger:
    """What a group of reports says is running, written at its end in two statements."""

    def __init__(self, session: Session, devices: Collection[str]) -> None:
        """`devices` are those whose reports will come."""
        self._session, self._devices = session, devices
        self._open: dict[tuple[str, str], dict[str, Any]] | None = None
        """What runs by all that was noted, by device and module; None: not looked at yet."""
        self._ended: list[dict[str, Any]] = []
        self._begun: list[dict[str, Any]] = []
        self._actors: dict[str, str | None] = {}

    def note(self, speaker: Speaker, report: Reported, *, now: float) -> None:
        """Take over what a report says is running; `speaker` is still as it was before."""
        was, told = _running(speaker.reported), _running(report)
        if was == told:
            return
        earliest = speaker.created_at if speaker.reported_at is None else speaker.reported_at
        modules = {module.name: module for module in report.modules}
        for name in sorted(was.keys() | told.keys()):
            if was.get(name) == told.get(name):
                continue
            module = modules.get(name)
            running = told.get(name)
            at, estimated = _moment(module, running, earliest=earliest, now=now)
            reason = _why_ended(module, running)
            self._end((speaker.id, name), at=at, estimated=estimated, reason=reason)
            if running is not None and module is not None:
                self._begin(speaker.id, module, running, at=at, estimated=estimated)

    def write(self) -> None:
        """Write all of it: what ends first, since of a module only one may be open."""
        table, connection = SQLModel.metadata.tables["run"], self._session.connection()
        if self._ended:
            ends = ("until_at", "until_estimated", "ended_reason")
            statement = sa.update(table).where(table.c.id == sa.bindparam("of"))
            connection.execute(
                statement.values({name: sa.bindparam(name) for name in ends}),
                [{"of": run["id"], **{name: run[name] for name in ends}} for run in self._ended],
            )
        if self._begun:
            connection.execute(sa.insert(table), self._begun)

    def _end(self, which: tuple[str, str], *, at: float, estimated: bool, reason: str) -> None:
        run = self._open_runs().pop(which, None)
        if run is not None:
            run["until_at"] = max(at, run["from_at"])
            run["until_estimated"], run["ended_reason"] = estimated, reason
            if "id" in run:
                self._ended.append(run)

    def _open_runs(self) -> dict[tuple[str, str], dict[str, Any]]:
        if self._open is None:
            row = SQLModel.metadata.tables["run"].c
            query = sa.select(row.id, row.device, row.module, row.from_at).where(
                row.device.in_(self._devices), row.until_at.is_(None)
            )
            found = self._session.connection().execute(query)
            self._open = {
                (run.device, run.module): {"id": run.id, "from_at": run.from_at} for run in found
            }
        return self._open

    def _begin(
        self,
        device: str,
        module: ModuleReport,
        running: RunningVersion,
        *,
        at: float,
        estimated: bool,
    ) -> None:
        deployment = self._deployment(device, module, running)
        run = {
            "device": device,
            "module": module.name,
            "model": running.model,
            "version": running.version,
            "bundle": running.bundle,
            "deployment": deployment,
            "actor": None if deployment is None else self._actor(deployment),
            "from_at": at,
            "from_estimated": estimated,
            "until_at": None,
            "until_estimated": False,
            "ended_reason": "",
        }
        self._begun.append(run)
        self._open_runs()[device, module.name] = run

    def _actor(self, deployment: str) -> str | None:
        if deployment not in self._actors:
            query = select(tables.Deployment.created_by).where(tables.Deployment.id == deployment)
            self._actors[deployment] = self._session.exec(query).one_or_none()
        return self._actors[deployment]

    def _deployment(self, device: str, module: ModuleReport, running: RunningVersion) -> str | None:
        """Return which deployment had this started: the one reported, or that of its last run."""
        if module.bundle == running.bundle and module.phase is Phase.RUNNING:
            return module.deployment
        sought = (device, module.name, running.bundle)
        for run in reversed(self._begun):
            if (run["device"], run["module"], run["bundle"]) == sought:
                known: str | None = run["deployment"]
                return known
        row = tables.Run
        query = (
            select(row.deployment)
            .where(row.device == device, row.module == module.name, row.bundle == running.bundle)
            .order_by(col(row.id).desc())
            .limit(1)
        )
        return self._session.exec(query).first()


def _running(report: Reported | None) -> dict[str, RunningVersion]:
    modules = () if report is None else report.modules
    return {module.name: module.running for module in modules if module.running is not None}


def _moment(
    module: ModuleReport | None, running: RunningVersion | None, *, earliest: float, now: float
) -> tuple[float, bool]:
    """Return when a change was, and whether that is when we heard of it.

    A device says since when it has been in its phase. That is believed if the phase is the change,
    and if it can be true.
    """
    if module is None or not clock.plausible(module.since):
        return now, True
    if running is None:
        tells = module.phase is Phase.FAILED
    else:
        tells = module.phase is Phase.RUNNING and running.bundle == module.bundle
    if not tells or not earliest <= module.since <= now:
        return now, True
    return module.since, False


def _why_ended(module: ModuleReport | None, running: RunningVersion | None) -> str:
    if running is not None:
        return f"{REPLACED} by {running.model}:{running.version}"
    if module is None:
        return REMOVED
    return f"{STOPPED}: {module.reason}"[: events.MAX_REASON_CHARS] if module.reason else STOPPED


def _end(session: Session, run: tables.Run, *, at: float, estimated: bool, reason: str) -> None:
    run.until_at = max(at, run.from_at)
    run.until_estimated, run.ended_reason = estimated, reason
    session.add(run)
    session.flush()
