"""Devices: what they are called, what they told, and which of them may connect."""

from collections.abc import Mapping

import msgspec
from sqlmodel import Session, col, or_, select

from cloud import tables
from cloud.errors import NotFoundError
from cloud.registry import desired, events, runs, selectors
from cloud.services import Change, mark
from runtime.errors import InvalidError
from runtime.messages import Reported
from runtime.topics import DeviceId

MAX_LABELS = 64
MAX_FACTS = 64


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


def reported(row: tables.Device) -> Reported | None:
    """Return the newest report of a device; None if it never reported."""
    return None if row.reported is None else msgspec.convert(row.reported, Reported)
