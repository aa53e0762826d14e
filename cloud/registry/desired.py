"""Desired state in the database: recomputed when a deployment or a device changes.

Pure decisions are in `cloud.registry.intents`. `recompute` raises a device's generation only when
its modules change; the publisher sends every row whose published generation is behind.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy import bindparam, insert
from sqlalchemy import select as sa_select
from sqlmodel import Session, SQLModel, col, func, or_, select, update

from cloud import tables
from cloud.registry import candidates, downloads, imagelogins, intents
from cloud.registry.intents import Admission, Intent, Target, desired_for
from cloud.services import Change, mark
from runtime import messages
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.imagelogins import ImageLogins
from runtime.messages import Capture, Desired, ModuleSpec
from runtime.topics import DeviceId

_LIVE = frozenset({"running", "paused", "complete"})
"""States of a rollout that may still let devices in: see cloud.rollouts.state."""

_ROW = SQLModel.metadata.tables["desired"].c
_GENERATIONS = sa.select(_ROW.device, _ROW.generation).where(
    _ROW.device.in_(bindparam("among", expanding=True))
)

__all__ = [
    "desired_for",
    "generations",
    "intent",
    "mark_published",
    "read",
    "read_all",
    "recompute",
    "target",
    "to_publish",
]


def target(device: tables.Device) -> Target:
    """Return a device as far as selection goes."""
    return Target(device.id, device.labels, device.facts, revoked=device.revoked_at is not None)


def ids(devices: Iterable[str]) -> list[DeviceId]:
    """Return ids that came from rows of devices."""
    return [DeviceId(device) for device in devices]


def intent(
    row: tables.Deployment,
    admitted: Mapping[str, Admission] | None = None,
    *,
    live: bool = True,
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


def _admitted(
    session: Session, devices: Iterable[DeviceId] | None
) -> dict[str, dict[str, Admission]]:
    """Return which devices each rollout has let in, and how."""
    row = tables.RolloutDevice
    columns = (row.rollout, row.device, row.retries, row.not_before, row.not_after)
    query = sa.select(*map(col, columns)).where(col(row.admitted).is_(True))
    if devices is not None:
        query = query.where(col(row.device).in_(list(devices)))
    found: dict[str, dict[str, Admission]] = {}
    for rollout, device, retries, start, stop in session.execute(query):
        window = None if start is None else (start, stop)
        found.setdefault(rollout, {})[device] = Admission(retries, window)
    return found


def recompute(
    session: Session, devices: Iterable[DeviceId] | None = None, *, now: float
) -> list[DeviceId]:
    """Bring the desired rows of these devices (None: all) up to date; return those that changed.

    Devices that are not enrolled are passed over. Marks Change.DESIRED on the session.
    """
    devices = None if devices is None else list(devices)
    wishes, fleet = active(session, devices), _fleet(session)
    logins = imagelogins.every(session)
    new, newer = list[dict[str, Any]](), list[dict[str, Any]]()
    for row in session.execute(_query(devices)):
        device, body = Target(row[0], row[1], row[2], revoked=row[3] is not None), row[5]
        held = None if body is None else messages.decode(Desired, body.encode())
        modules = intents.desired_for(device, wishes, () if held is None else held.modules)
        told = _logins(session, device, row[6], held, logins)
        if held is not None and (modules, told) == (held.modules, held.image_logins):
            continue
        generation = 1 if held is None else row[4] + 1
        message = Desired(device.id, generation, now, modules, fleet=fleet, image_logins=told)
        values = {"of": device.id, "newest": generation, "text": _written(message)}
        (new if held is None else newer).append(values)
    _write(session, new, newer)
    changed = ids(each["of"] for each in (*new, *newer))
    if changed:
        mark(session, Change.DESIRED)
    return changed


def _query(devices: Sequence[DeviceId] | None) -> Any:
    """Return a query for columns: an object for each row would take most of the time."""
    row, wanted = tables.Device, tables.Desired
    told = (wanted.generation, wanted.body)
    columns = (row.id, row.labels, row.facts, row.revoked_at, *told, row.certificate_serial)
    query = (
        sa_select(*map(col, columns))
        .join_from(row, wanted, col(wanted.device) == col(row.id), isouter=True)
        .order_by(col(row.id))
    )
    return query if devices is None else query.where(col(row.id).in_(devices))


def _logins(
    session: Session,
    device: Target,
    certificate: str | None,
    held: Desired | None,
    logins: Sequence[tables.ImageLogin],
) -> ImageLogins | None:
    wanted = imagelogins.chosen(logins, device)
    known = None if held is None else held.image_logins
    return imagelogins.sealed(session, certificate, wanted, known)


def _written(message: Desired) -> str:
    payload = messages.encode(message)
    if len(payload) > messages.MAX_MESSAGE_BYTES:
        raise InvalidError(
            "deployment",
            f"{len(payload)} bytes of desired state for {message.device}",
            f"a device takes at most {messages.MAX_MESSAGE_BYTES}: cancel old deployments",
        )
    return payload.decode()


def _write(
    session: Session, new: Sequence[dict[str, Any]], newer: Sequence[dict[str, Any]]
) -> None:
    table, connection = SQLModel.metadata.tables["desired"], session.connection()
    values: dict[str, Any] = {"generation": bindparam("newest"), "body": bindparam("text")}
    if new:
        added = insert(table).values(device=bindparam("of"), published_generation=0, **values)
        connection.execute(added, new)
    if newer:
        changed = update(table).where(table.c.device == bindparam("of")).values(values)
        connection.execute(changed, newer)
    for known in list(session.identity_map.values()):
        if isinstance(known, tables.Desired):
            session.expire(known)


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
    logins, serial = imagelogins.every(session), present.certificate_serial
    told = _logins(session, target(present), serial, held, logins)
    message = msgspec.structs.replace(held, generation=generation, issued_at=now, image_logins=told)
    row.generation, row.body = message.generation, messages.encode(message).decode()
    session.add(row)
    mark(session, Change.DESIRED)


def read(session: Session, device: DeviceId) -> Desired | None:
    """Return what a device shall run; None if it never enrolled."""
    row = session.get(tables.Desired, device)
    return None if row is None else _message(row)


def read_all(session: Session, devices: Collection[DeviceId]) -> dict[DeviceId, Desired]:
    """Return what these devices shall run; those that never enrolled are not there."""
    row = tables.Desired
    query = select(row.device, row.body).where(col(row.device).in_(devices))
    return {
        DeviceId(device): messages.decode(Desired, body.encode())
        for device, body in session.exec(query)
    }


def generations(session: Session, devices: Collection[DeviceId]) -> dict[DeviceId, int]:
    """Return which generation these devices shall have seen; who never enrolled is not there."""
    found = session.connection().execute(_GENERATIONS, {"among": list(devices)})
    return {DeviceId(device): generation for device, generation in found}


def _message(row: tables.Desired) -> Desired:
    return messages.decode(Desired, row.body.encode())


def to_publish(
    session: Session, *, everything: bool = False, also: Collection[DeviceId] = ()
) -> Sequence[tuple[DeviceId, int, str]]:
    """Return device, generation and body of the rows that the broker does not have yet, or of all.

    Those of `also` come with them. A broker may not have cut off a revoked device yet: it is told
    nothing any more, not even to stop what it runs.
    """
    row = tables.Desired
    query = (
        select(row.device, row.generation, row.body)
        .join(tables.Device, col(tables.Device.id) == col(row.device))
        .where(col(tables.Device.revoked_at).is_(None))
    )
    if not everything:
        behind = col(row.published_generation) < col(row.generation)
        query = query.where(or_(behind, col(row.device).in_(also)) if also else behind)
    return [(DeviceId(found[0]), found[1], found[2]) for found in session.exec(query)]


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
