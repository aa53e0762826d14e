"""Devices: what they are called, what they told, and which of them may connect."""

import logging
from collections.abc import Collection, Mapping
from typing import Any

import msgspec
from sqlmodel import Session, col, or_, select

from cloud import tables
from cloud.errors import NotFoundError
from cloud.registry import desired, events, runs, selectors
from cloud.services import Change, mark
from runtime.errors import InvalidError
from runtime.messages import ModuleReport, Phase, Presence, Reported
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

MAX_LABELS = 64
MAX_FACTS = 64
LEASE_S = 180.0
"""Of a device that has not told its own."""


def get(session: Session, device: str) -> tables.Device:
    """Return a device; raise NotFoundError if it never enrolled."""
    row = session.get(tables.Device, device)
    if row is None:
        raise NotFoundError("device", device, "see `packhorse devices list`")
    return row


def page(
    session: Session, *, after: str, limit: int, selector: str | None = None
) -> list[tables.Device]:
    """Return up to `limit` devices that the selector matches, by id, from behind `after` on."""
    wanted = None if selector is None else selectors.parse(selector)
    query = select(tables.Device).where(col(tables.Device.id) > after)
    found: list[tables.Device] = []
    for row in session.exec(query.order_by(col(tables.Device.id))):
        if wanted is None or wanted.matches(desired.target(row).attributes):
            found.append(row)
        if len(found) == limit:
            break
    return found


def allowed(session: Session) -> list[DeviceId]:
    """Return the ids that the broker shall let in."""
    query = select(tables.Device.id).where(col(tables.Device.revoked_at).is_(None))
    return [DeviceId(device) for device in session.exec(query.order_by(col(tables.Device.id)))]


def load_allowed(session: Session, among: Collection[DeviceId]) -> dict[str, tables.Device]:
    """Return those of these devices that the broker shall let in, by id.

    While the caller holds the result, `get` of one of them needs no query.
    """
    query = select(tables.Device).where(
        col(tables.Device.id).in_(among), col(tables.Device.revoked_at).is_(None)
    )
    return {row.id: row for row in session.exec(query)}


def certificates(session: Session) -> dict[DeviceId, str]:
    """Return the devices that the broker shall let in, each with its good certificate's serial.

    Any other certificate of theirs was replaced: see `revoked_serials`.
    """
    query = select(tables.Device.id, tables.Device.certificate_serial).where(
        col(tables.Device.revoked_at).is_(None)
    )
    return {DeviceId(device): serial for device, serial in session.exec(query)}


def revoked_serials(session: Session) -> list[str]:
    """Return the serials (hexadecimal) of certificates that must no longer be accepted.

    Those of revoked devices, and those that a later enrolment of the same device replaced.
    """
    query = (
        select(tables.Certificate.serial)
        .join(tables.Device, col(tables.Device.id) == col(tables.Certificate.device))
        .where(
            or_(
                col(tables.Device.revoked_at).is_not(None),
                col(tables.Device.certificate_serial) != col(tables.Certificate.serial),
            )
        )
    )
    return list(session.exec(query))


def set_labels(
    session: Session,
    device: str,
    changes: Mapping[str, str | None],
    *,
    actor: str,
    now: float,
) -> tables.Device:
    """Set labels, or remove those that are None; what the device shall run follows."""
    row = get(session, device)
    merged = {**row.labels, **changes}
    row.labels = check_labels({k: v for k, v in merged.items() if v is not None})
    row.revision += 1
    session.add(row)
    session.flush()
    desired.recompute(session, [DeviceId(device)], now=now)
    events.add(
        session,
        at=now,
        actor=actor,
        kind="device.labelled",
        subject=device,
        data={"labels": row.labels},
    )
    return row


def check_labels(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels that a selector can name; raise InvalidError otherwise."""
    if len(labels) > MAX_LABELS:
        raise InvalidError("labels", f"{len(labels)} labels", f"give at most {MAX_LABELS}")
    for key, value in labels.items():
        selectors.check_key(key, f"labels.{key}")
        selectors.check_value(value, f"labels.{key}")
    return dict(labels)


def revoke(session: Session, device: str, *, actor: str, now: float) -> tables.Device:
    """Shut a device out. Its history stays; a token made for its id can enrol it again."""
    row = get(session, device)
    if row.revoked_at is not None:
        return row
    row.revoked_at, row.online = now, False
    row.revision += 1
    session.add(row)
    session.flush()
    runs.close_all(session, device, reason=runs.REVOKED, now=now)
    mark(session, Change.DEVICES)
    desired.recompute(session, [DeviceId(device)], now=now)
    events.add(session, at=now, actor=actor, kind="device.revoked", subject=device)
    return row


def apply_reported(
    session: Session, device: DeviceId, report: Reported, *, now: float, lease_s: float = LEASE_S
) -> None:
    """Take over a device's report.

    Raises NotFoundError for a device that never enrolled. What converged or failed since the
    report before goes into the history, and what it runs now; changed facts may change what it
    shall run.
    """
    row = get(session, device)
    before = reported(row)
    runs.note_heard(session, row, online=None, lease_s=lease_s, now=now)
    _note_transitions(session, row, report, before, now)
    runs.note(session, row, report, before, now=now)
    facts = dict(sorted(report.facts.items())[:MAX_FACTS])
    facts_changed = bool(facts) and facts != row.facts
    if facts_changed:
        row.facts = facts
    row.reported = msgspec.to_builtins(report)
    row.reported_at = row.last_seen = now
    row.reported_generation = report.generation
    session.add(row)
    if facts_changed:
        session.flush()
        _follow_facts(session, device, now)


def _follow_facts(session: Session, device: DeviceId, now: float) -> None:
    try:
        desired.recompute(session, [device], now=now)
    except InvalidError as error:
        # A report must not be lost because operators ask for more than a message can carry.
        log.warning("desired state kept as it was", extra={"device": device, "why": str(error)})


def apply_presence(
    session: Session,
    device: DeviceId,
    presence: Presence,
    *,
    now: float,
    lease_s: float = LEASE_S,
) -> None:
    """Take over whether a device's connection stands; raise NotFoundError if it never enrolled."""
    row = get(session, device)
    runs.note_heard(session, row, online=presence.online, lease_s=lease_s, now=now)
    row.online, row.lease_s = presence.online, presence.lease_s
    if presence.online:
        row.last_seen = now
    session.add(row)


def touch(session: Session, device: DeviceId, *, now: float) -> None:
    """Note a sign of life."""
    row = get(session, device)
    row.last_seen = now
    session.add(row)


def reported(row: tables.Device) -> Reported | None:
    """Return the newest report of a device; None if it never reported."""
    return None if row.reported is None else msgspec.convert(row.reported, Reported)


_FINAL = {Phase.RUNNING: "device.converged", Phase.FAILED: "device.failed"}


def _note_transitions(
    session: Session, row: tables.Device, report: Reported, before: Reported | None, now: float
) -> None:
    """Leave an event for each module that has come to an end which was not told before.

    A device that restarts goes through all phases again, and a broker may bring an old report once
    more: neither is news of the deployment.
    """
    known = {} if before is None else {module.name: _essence(module) for module in before.modules}
    for module in report.modules:
        kind = _FINAL.get(module.phase)
        if kind is None or known.get(module.name) == _essence(module):
            continue
        told = {
            "module": module.name,
            "model": module.model,
            "version": module.version,
            "bundle": module.bundle,
            "deployment": module.deployment,
            "attempt": module.attempt,
        }
        if _last_final(session, row.id, module.name) == (kind, told):
            continue
        events.add(
            session,
            at=now,
            actor=events.device_actor(row.id),
            kind=kind,
            subject=row.id,
            data={**told, "reason": module.reason[: events.MAX_REASON_CHARS]},
        )


def _last_final(session: Session, device: str, module: str) -> tuple[str, dict[str, Any]] | None:
    """Return the end that was told last of a module, without its reason; None: none was."""
    found = session.exec(
        select(tables.Event.kind, tables.Event.data)
        .where(
            tables.Event.subject == device,
            col(tables.Event.kind).in_(_FINAL.values()),
            col(tables.Event.data)["module"].as_string() == module,
        )
        .order_by(col(tables.Event.id).desc())
        .limit(1)
    ).first()
    if found is None:
        return None
    kind, data = found
    return kind, {"attempt": 0, **{key: data[key] for key in data if key != "reason"}}


def _essence(module: ModuleReport) -> tuple[Phase, str, str, int]:
    return (module.phase, module.bundle, module.deployment, module.attempt)
