"""What devices say of themselves, into rows: their reports and presences, many at once.

However many devices a group of words is of, it is read by one statement and written by a few. The
words of one device are taken in their order; what each leaves in the history is as if it had come
alone.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlmodel import Session, SQLModel

from cloud.registry import desired, devices, events
from cloud.registry.runs import Ledger, Speaker, heard
from runtime.errors import InvalidError
from runtime.messages import ModuleReport, Phase, Presence, Reported
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

LEASE_S = 180.0
"""Of a device that has not told its own."""
_TABLE = SQLModel.metadata.tables["device"]
_ROW = _TABLE.c
# Made once: this is done with every group of words.
_KNOWN = sa.select(
    _ROW.id,
    _ROW.created_at,
    _ROW.online,
    _ROW.lease_s,
    _ROW.last_seen,
    # As text, which is read at once into what it is.
    sa.cast(_ROW.reported, sa.Text),
    _ROW.reported_at,
    sa.cast(_ROW.facts, sa.Text),
    _ROW.reported_generation,
).where(_ROW.id.in_(sa.bindparam("among", expanding=True)), _ROW.revoked_at.is_(None))
_KINDS = {Phase.RUNNING: "device.converged", Phase.FAILED: "device.failed"}
_EVENT = SQLModel.metadata.tables["event"]


def _newest(kind: str) -> "sa.Select[tuple[int | None]]":
    """Return the query for the newest event of a kind of each of some devices about one module.

    Each is found from its end, so a history of years costs no more than a short one.
    """
    row = _EVENT.alias().c
    newest = (
        sa.select(row.id)
        .where(
            row.subject == _ROW.id,
            row.kind == kind,
            row.data["module"].as_string() == sa.bindparam("module"),
        )
        .order_by(row.id.desc())
        .limit(1)
        .correlate(_TABLE)
        .scalar_subquery()
    )
    return sa.select(newest).where(_ROW.id.in_(sa.bindparam("among", expanding=True)))


LAST_ENDS = (
    sa.select(_EVENT.c.subject, _EVENT.c.kind, _EVENT.c.data)
    .where(_EVENT.c.id.in_(sa.union_all(*map(_newest, _KINDS.values()))))
    .order_by(_EVENT.c.id)
)
"""The last ends that the devices `among` told of a `module`, two at most of each, oldest first."""


@dataclass(frozen=True)
class Word:
    """One thing that a device said."""

    device: DeviceId
    said: Reported | Presence
    received_at: float
    """Registry clock, seconds since 1970."""
    retained: bool = False
    """It was said some time ago: the broker kept it."""


@dataclass
class _Device(Speaker):
    """A device's row, as far as words change it."""

    facts: dict[str, str] = field(default_factory=dict)
    reported_generation: int = 0
    spoke: bool = False
    """It reported, in this group."""
    changed: bool = False
    """Its facts did."""


class _Change:
    """A statement that writes some columns of many devices."""

    def __init__(self, *columns: str) -> None:
        self._columns = columns
        self._statement = (
            sa.update(_TABLE)
            .where(_ROW.id == sa.bindparam("of"))
            .values({name: sa.bindparam(name) for name in columns})
        )

    def make(self, session: Session, devices: Iterable[_Device]) -> None:
        """Write what is known of these."""
        values = [
            {"of": device.id, **{name: getattr(device, name) for name in self._columns}}
            for device in devices
        ]
        session.connection().execute(self._statement, values)


_PRESENT = _Change("online", "lease_s", "last_seen")
_SPOKE = _Change("online", "lease_s", "last_seen", "reported", "reported_at", "reported_generation")
_CHANGED = _Change("facts")


def take_over(session: Session, words: Sequence[Word], *, lease_s: float = LEASE_S) -> set[str]:
    """Write what devices said; return those that enrolled and are not revoked.

    What others said is passed over. What converged or failed since the report before goes into the
    history, and what runs now; changed facts may change what a device shall run.
    """
    session.flush()
    known = _load(session, {word.device for word in words})
    finals = _Finals(session, words, known)
    ledger, lines = Ledger(session, known), list[dict[str, Any]]()
    for word in words:
        device = known.get(word.device)
        if device is None:
            continue
        now, online = word.received_at, getattr(word.said, "online", None)
        lines += heard(device, online=online, lease_s=lease_s, now=now)
        if isinstance(word.said, Presence):
            _presence(device, word.said, word)
        else:
            lines += _transitions(device, word.said, finals, now)
            ledger.note(device, word.said, now=now)
            _report(device, word.said, now)
    ledger.write()
    events.add_all(session, lines)
    _write(session, known.values())
    session.expire_all()
    changed = {device.id: device.last_seen or 0.0 for device in known.values() if device.changed}
    _follow_facts(session, desired.ids(changed), max(changed.values(), default=0.0))
    return set(known)


def _load(session: Session, among: Collection[DeviceId]) -> dict[str, _Device]:
    found = session.connection().execute(_KNOWN, {"among": list(among)})
    return {row[0]: _device(row) for row in found}


def _device(row: Any) -> _Device:
    name, created_at, online, lease_s, last_seen, text, reported_at, facts, generation = row
    return _Device(
        id=name,
        created_at=created_at,
        online=online,
        lease_s=lease_s,
        last_seen=last_seen,
        reported=_reported(text),
        reported_at=reported_at,
        facts=msgspec.json.decode(facts, type=dict[str, str]),
        reported_generation=generation,
    )


def _reported(text: str | None) -> Reported | None:
    # A JSON column holds nothing as the word null.
    return None if text is None else msgspec.json.decode(text, type=Reported | None)


def _presence(device: _Device, said: Presence, word: Word) -> None:
    device.online, device.lease_s = said.online, said.lease_s
    if said.online and not word.retained:  # news of old is no sign of life
        device.last_seen = word.received_at


def _report(device: _Device, report: Reported, now: float) -> None:
    facts = dict(sorted(report.facts.items())[: devices.MAX_FACTS])
    if facts and facts != device.facts:
        device.facts, device.changed = facts, True
    device.reported, device.spoke = report, True
    device.reported_at = device.last_seen = now
    device.reported_generation = report.generation


class _Finals:
    """The end that each of these devices told last of each module; read when it is asked for."""

    def __init__(self, session: Session, words: Iterable[Word], known: Collection[str]) -> None:
        """`words` are all that will be asked about, `known` those whose words count."""
        self._session = session
        self._told: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {}
        self._unread: dict[str, set[str]] = {}
        """Devices by the module of which they tell an end."""
        for word in words:
            if isinstance(word.said, Reported) and word.device in known:
                for module in word.said.modules:
                    if module.phase in _KINDS:
                        self._unread.setdefault(module.name, set()).add(word.device)

    def is_news(self, device: str, kind: str, told: dict[str, Any]) -> bool:
        """Say whether this is not what the device told last of the module, and keep it as that."""
        module = str(told["module"])
        self._read(module, self._unread.pop(module, ()))
        news = self._told.get((device, module)) != (kind, told)
        self._told[device, module] = kind, told
        return news

    def _read(self, module: str, devices: Collection[str]) -> None:
        if not devices:
            return
        among = {"module": module, "among": sorted(devices)}
        for device, kind, data in self._session.connection().execute(LAST_ENDS, among):
            told = {key: data[key] for key in data if key != "reason"}
            self._told[device, module] = kind, {"attempt": 0, **told}


def _transitions(
    device: _Device, report: Reported, finals: _Finals, now: float
) -> Iterable[dict[str, Any]]:
    """Yield an event for each module that has come to an end which was not told before.

    A device that restarts goes through all phases again, and a broker may bring an old report once
    more: neither is news of the deployment.
    """
    before = () if device.reported is None else device.reported.modules
    known = {module.name: _essence(module) for module in before}
    for module in report.modules:
        kind = _KINDS.get(module.phase)
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
        if finals.is_news(device.id, kind, told):
            yield events.line(
                at=now,
                actor=events.device_actor(device.id),
                kind=kind,
                subject=device.id,
                data={**told, "reason": module.reason[: events.MAX_REASON_CHARS]},
            )


def _essence(module: ModuleReport) -> tuple[Phase, str, str, int]:
    return (module.phase, module.bundle, module.deployment, module.attempt)


def _write(session: Session, known: Collection[_Device]) -> None:
    for change, those in (
        (_PRESENT, [device for device in known if not device.spoke]),
        (_SPOKE, [device for device in known if device.spoke]),
        (_CHANGED, [device for device in known if device.changed]),
    ):
        if those:
            change.make(session, those)


def _follow_facts(session: Session, those: Sequence[DeviceId], now: float) -> None:
    if not those:
        return
    try:
        desired.recompute(session, those, now=now)
    except InvalidError as error:
        # A report must not be lost because operators ask for more than a message can carry.
        if len(those) > 1:
            for device in those:
                _follow_facts(session, [device], now)
            return
        extra = {"device": those[0], "why": str(error)}
        log.warning("desired state kept as it was", extra=extra)
