"""Desired state in the database: recomputed when a deployment or a device changes.

Pure decisions are in `cloud.registry.intents`. `recompute` raises a device's generation only when
its modules change; the publisher sends every row whose published generation is behind.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import bindparam
from sqlmodel import Session, SQLModel, col, func, select, update

from cloud import tables
from cloud.registry import candidates, downloads, imagelogins, intents
from cloud.registry.intents import Intent, Target, desired_for
from cloud.services import Change, mark
from runtime import messages
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.imagelogins import ImageLogins
from runtime.messages import Capture, Desired, ModuleSpec
from runtime.topics import DeviceId

_LIVE = frozenset({"running", "paused", "complete"})
"""States of a rollout that may still let devices in: see cloud.rollouts.state."""

__all__ = ["desired_for", "intent", "lagging", "mark_published", "read", "recompute", "target"]


def target(device: tables.Device) -> Target:
    """Return a device as far as selection goes."""
    return Target(device.id, device.labels, device.facts, revoked=device.revoked_at is not None)


def ids(devices: Iterable[str]) -> list[DeviceId]:
    """Return ids that came from rows of devices."""
    return [DeviceId(device) for device in devices]


def intent(
    row: tables.Deployment, admitted: Mapping[str, int] | None = None, *, live: bool = True
) -> Intent:
    """Return a deployment's wish; `admitted` are the devices that its rollout has let in."""
    assert row.sequence is not None, "read from the database"
    spec = ModuleSpec(
        name=row.module,
        bundle=Digest(row.bundle),
        model=row.model,
        version=row.version,
        deployment=row.id,
        attempt=row.attempt,
        sources=None if row.sources is None else tuple(row.sources),
        capture=msgspec.convert(row.capture, Capture),
        soak_s=row.soak_s,
        candidate=candidates.of(row),
        **msgspec.to_builtins(downloads.read(row.capture)),
    )
    return Intent(
        sequence=row.sequence,
        selector=row.selector,
        spec=spec,
        priority=row.priority,
        line="" if row.rollout is None else row.name,
        rollout=row.rollout,
        admitted=None if row.rollout is None else admitted or {},
        live=live,
    )


def active(session: Session, devices: Iterable[DeviceId] | None = None) -> list[Intent]:
    """Return all deployments that were not cancelled, as far as these devices (None: all) go."""
    query = (
        select(tables.Deployment, tables.Rollout.state)
        .join(
            tables.Rollout,
            col(tables.Rollout.id) == col(tables.Deployment.rollout),
            isouter=True,
        )
        .where(col(tables.Deployment.cancelled_at).is_(None))
        .order_by(col(tables.Deployment.sequence))
    )
    rows = session.exec(query).all()
    rolled = {row.rollout for row, _state in rows if row.rollout is not None}
    admitted = _admitted(session, devices) if rolled else {}
    return [
        intent(row, admitted.get(row.rollout or ""), live=state is None or state in _LIVE)
        for row, state in rows
    ]


def _admitted(session: Session, devices: Iterable[DeviceId] | None) -> dict[str, dict[str, int]]:
    """Return which devices each rollout has let in, and how often each was retried."""
    row = tables.RolloutDevice
    query = select(row.rollout, row.device, row.retries).where(col(row.admitted).is_(True))
    if devices is not None:
        query = query.where(col(row.device).in_(list(devices)))
    found: dict[str, dict[str, int]] = {}
    for rollout, device, retries in session.exec(query):
        found.setdefault(rollout, {})[device] = retries
    return found


def recompute(
    session: Session, devices: Iterable[DeviceId] | None = None, *, now: float
) -> list[DeviceId]:
    """Bring the desired rows of these devices (None: all) up to date; return those that changed.

    Devices that are not enrolled are passed over. Marks Change.DESIRED on the session.
    """
    query = select(tables.Device, tables.Desired).join(
        tables.Desired, col(tables.Desired.device) == col(tables.Device.id), isouter=True
    )
    devices = None if devices is None else list(devices)
    if devices is not None:
        query = query.where(col(tables.Device.id).in_(list(devices)))
    wishes, fleet = active(session, devices), _fleet(session)
    logins = imagelogins.every(session)
    changed = []
    for device, row in session.exec(query).all():
        held = None if row is None else _message(row)
        modules = intents.desired_for(target(device), wishes, () if held is None else held.modules)
        told = _logins(session, device, held, logins)
        wanted = Desired(device.id, 0, now, modules, fleet=fleet, image_logins=told)
        if _update(session, row, held, wanted):
            changed.append(DeviceId(device.id))
    if changed:
        mark(session, Change.DESIRED)
    return changed


def _logins(
    session: Session,
    device: tables.Device,
    held: Desired | None,
    logins: Sequence[tables.ImageLogin],
) -> ImageLogins | None:
    wanted = imagelogins.chosen(logins, target(device))
    return imagelogins.sealed(session, device, wanted, None if held is None else held.image_logins)


def _update(
    session: Session,
    row: tables.Desired | None,
    held: Desired | None,
    wanted: Desired,
) -> bool:
    if held is not None and (held.modules, held.image_logins) == (
        wanted.modules,
        wanted.image_logins,
    ):
        return False
    generation = 1 if row is None else row.generation + 1
    payload = messages.encode(msgspec.structs.replace(wanted, generation=generation))
    if len(payload) > messages.MAX_MESSAGE_BYTES:
        raise InvalidError(
            "deployment",
            f"{len(payload)} bytes of desired state for {wanted.device}",
            f"a device takes at most {messages.MAX_MESSAGE_BYTES}: cancel old deployments",
        )
    if row is None:
        row = tables.Desired(device=wanted.device, generation=generation, body="")
    row.generation, row.body = generation, payload.decode()
    session.add(row)
    return True


def _fleet(session: Session) -> int:
    """Return how many devices the broker lets in."""
    query = select(func.count()).where(col(tables.Device.revoked_at).is_(None))
    return session.exec(query).one()


def renew(session: Session, device: DeviceId, *, now: float, above: int = 0) -> None:
    """Raise the generation, beyond `above` too, even if nothing changed.

    A device that enrolled again must be told; one that has seen more than we know, heard.
    """
    row = session.get(tables.Desired, device)
    if row is None:
        recompute(session, [device], now=now)
        return
    generation = max(row.generation, above) + 1
    held, present = _message(row), session.get(tables.Device, device)
    assert present is not None, "a desired row refers to it"
    told = _logins(session, present, held, imagelogins.every(session))
    message = msgspec.structs.replace(held, generation=generation, issued_at=now, image_logins=told)
    row.generation, row.body = message.generation, messages.encode(message).decode()
    session.add(row)
    mark(session, Change.DESIRED)


def read(session: Session, device: DeviceId) -> Desired | None:
    """Return what a device shall run; None if it never enrolled."""
    row = session.get(tables.Desired, device)
    return None if row is None else _message(row)


def _message(row: tables.Desired) -> Desired:
    return messages.decode(Desired, row.body.encode())


def lagging(session: Session, *, everything: bool = False) -> Sequence[tables.Desired]:
    """Return the rows that the broker does not have yet, or all rows."""
    query = select(tables.Desired)
    if not everything:
        query = query.where(tables.Desired.published_generation < tables.Desired.generation)
    return session.exec(query).all()


def mark_published(session: Session, generations: Mapping[DeviceId, int]) -> None:
    """Note which generations the broker has; an older note never replaces a newer one."""
    row = SQLModel.metadata.tables["desired"].c
    session.connection().execute(
        update(SQLModel.metadata.tables["desired"])
        .where(row.device == bindparam("of"))
        .where(row.published_generation < bindparam("newest"))
        .values(published_generation=bindparam("newest")),
        [{"of": device, "newest": newest} for device, newest in generations.items()],
    )


def mark_unpublished(session: Session, device: DeviceId) -> None:
    """Have the row published again: the device has not seen it."""
    session.exec(
        update(tables.Desired)
        .where(col(tables.Desired.device) == device)
        .values(published_generation=0)
    )
    mark(session, Change.DESIRED)
