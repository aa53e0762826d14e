"""What devices say they run, and when they are heard from, as it becomes the history.

See cloud.registry.history, which answers questions about it.
"""

from typing import Any

from sqlmodel import Session, col, select

from cloud import tables
from cloud.registry import events
from runtime import clock
from runtime.messages import ModuleReport, Phase, Reported, RunningVersion

REPLACED, REMOVED, REVOKED, ENROLLED = "replaced", "removed", "device revoked", "enrolled again"
STOPPED = "stopped"
ONLINE, OFFLINE = "device.online", "device.offline"


def note(
    session: Session, row: tables.Device, report: Reported, before: Reported | None, *, now: float
) -> None:
    """Take over what a report says is running; `before` is the report before it.

    Call it while `row.reported_at` is still the time of `before`.
    """
    was, told = _running(before), _running(report)
    if was == told:
        return
    earliest = row.created_at if row.reported_at is None else row.reported_at
    modules = {module.name: module for module in report.modules}
    for name in sorted(was.keys() | told.keys()):
        if was.get(name) == told.get(name):
            continue
        module = modules.get(name)
        running = told.get(name)
        at, estimated = _moment(module, running, earliest=earliest, now=now)
        reason = _why_ended(module, running)
        _close(session, row.id, name, at=at, estimated=estimated, reason=reason)
        if running is not None and module is not None:
            _open(session, row.id, module, running, at=at, estimated=estimated)


def close_all(session: Session, device: str, *, reason: str, now: float) -> None:
    """End what is known of a device: from `now` on nothing it ran counts as running."""
    query = select(tables.Run).where(
        tables.Run.device == device, col(tables.Run.until_at).is_(None)
    )
    for run in session.exec(query).all():
        _end(session, run, at=now, estimated=True, reason=reason)


def note_heard(
    session: Session, row: tables.Device, *, online: bool | None, lease_s: float, now: float
) -> None:
    """Leave an event if a device is heard from again, or goes away.

    `online` is what it says of its connection; None: it said something else. Call it while the
    row's `online` and `last_seen` are still those of before.
    """
    silent = row.last_seen is None or now > row.last_seen + (row.lease_s or lease_s)
    back = online is True and row.online is not True
    if online is False:
        if row.online is not False:
            _add(session, row, OFFLINE, {"last_seen": row.last_seen}, now)
    elif silent or back:
        _add(session, row, ONLINE, {"silent_since": row.last_seen}, now)


def _add(session: Session, row: tables.Device, kind: str, data: dict[str, Any], now: float) -> None:
    actor = events.device_actor(row.id)
    events.add(session, at=now, actor=actor, kind=kind, subject=row.id, data=data)


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


def _close(
    session: Session, device: str, module: str, *, at: float, estimated: bool, reason: str
) -> None:
    query = select(tables.Run).where(
        tables.Run.device == device,
        tables.Run.module == module,
        col(tables.Run.until_at).is_(None),
    )
    run = session.exec(query).one_or_none()
    if run is not None:
        _end(session, run, at=at, estimated=estimated, reason=reason)


def _end(session: Session, run: tables.Run, *, at: float, estimated: bool, reason: str) -> None:
    run.until_at = max(at, run.from_at)
    run.until_estimated, run.ended_reason = estimated, reason
    session.add(run)
    session.flush()


def _open(
    session: Session,
    device: str,
    module: ModuleReport,
    running: RunningVersion,
    *,
    at: float,
    estimated: bool,
) -> None:
    deployment = _deployment(session, device, module, running)
    row = None
    if deployment is not None:
        query = select(tables.Deployment).where(tables.Deployment.id == deployment)
        row = session.exec(query).one_or_none()
    session.add(
        tables.Run(
            device=device,
            module=module.name,
            model=running.model,
            version=running.version,
            bundle=running.bundle,
            deployment=deployment,
            actor=None if row is None else row.created_by,
            from_at=at,
            from_estimated=estimated,
        )
    )
    session.flush()


def _deployment(
    session: Session, device: str, module: ModuleReport, running: RunningVersion
) -> str | None:
    """Return which deployment had this started: the one reported, or the one of its last run."""
    if module.bundle == running.bundle and module.phase is Phase.RUNNING:
        return module.deployment
    query = (
        select(tables.Run.deployment)
        .where(
            tables.Run.device == device,
            tables.Run.module == module.name,
            tables.Run.bundle == running.bundle,
        )
        .order_by(col(tables.Run.id).desc())
        .limit(1)
    )
    return session.exec(query).first()
