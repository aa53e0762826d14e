"""How long updates have taken lately: what the estimate of a plan rests on."""

import statistics
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from sqlmodel import Session, col, select

from cloud import tables
from cloud.registry import devices, explain
from cloud.rollouts.state import Standing

ASSUMED_S = 60.0
"""What a device is taken to need while nothing was measured."""
LEAST_S = 1.0
RECENT_S = 90 * 86400.0
MOST = 1000
"""Updates that are looked at, the latest."""
TELLING_BYTES = 1 << 20
"""A download below this says nothing about the rate."""


@dataclass(frozen=True)
class Sample:
    """One update of one device."""

    took_s: float
    received: int | None = None
    """Bytes that came over the network for it; None: not known."""
    at: float = 0.0


@dataclass(frozen=True)
class Measured:
    """What recent updates have shown."""

    samples: Mapping[str, Sample] = field(default_factory=dict)
    """By device, its latest."""
    own: bool = True
    """Whether these are devices of the plan; else those of other rollouts."""

    @property
    def rate(self) -> float | None:
        """Bytes per second of a device in the middle; None: nothing large enough was fetched."""
        rates = [
            each.received / each.took_s
            for each in self.samples.values()
            if each.received is not None and each.received >= TELLING_BYTES
        ]
        return statistics.median(rates) if rates else None

    def estimates(self, needed: Mapping[str, int]) -> dict[str, float]:
        """Return the seconds that each device will need to fetch so many bytes and to switch."""
        if not self.samples:
            return dict.fromkeys(needed, ASSUMED_S)
        typical, rate = self._typical(), self.rate
        least_s = min(each.took_s for each in self.samples.values())
        found = {}
        for device, count in needed.items():
            last = self.samples.get(device, typical)
            more_s = 0.0
            if rate is not None and last.received is not None:
                more_s = (count - last.received) / rate
            found[device] = max(least_s, last.took_s + more_s)
        return found

    def _typical(self) -> Sample:
        received = [each.received for each in self.samples.values() if each.received is not None]
        return Sample(
            statistics.median(each.took_s for each in self.samples.values()),
            int(statistics.median(received)) if received else None,
        )

    def said(self, now: float) -> str:
        """Return what the estimate rests on, for people."""
        if not self.samples:
            return f"nothing was measured yet: {ASSUMED_S:g} s assumed for each device"
        whose = "of these devices" if self.own else "of other devices"
        last = explain.duration(max(0.0, now - max(each.at for each in self.samples.values())))
        text = (
            f"measured: {len(self.samples)} updates {whose}, the last {last} ago, "
            f"{self._typical().took_s:.0f} s in the middle"
        )
        return text if self.rate is None else f"{text}, at {self.rate / 1000:.0f} kB/s"


def measured(session: Session, among: Collection[str], now: float) -> Measured:
    """Return what was measured of these devices, or else of others."""
    found = _samples(session, now)
    own = {device: each for device, each in found.items() if device in among}
    return Measured(own) if own else Measured(found, own=False)


def _samples(session: Session, now: float) -> dict[str, Sample]:
    row = tables.RolloutDevice
    query = (
        select(row, tables.Device)
        .join(tables.Device, col(tables.Device.id) == col(row.device))
        .where(
            row.standing == Standing.UPDATED.value,
            col(row.admitted_at).is_not(None),
            # With a window it waited too, and did not say for how long.
            col(row.not_before).is_(None),
            row.since >= now - RECENT_S,
        )
        .order_by(col(row.since).desc())
        .limit(MOST)
    )
    rows = session.exec(query).all()
    owners = _owners(session, {member.rollout for member, _device in rows})
    found: dict[str, Sample] = {}
    for member, device in rows:
        if member.device not in found and member.admitted_at is not None:
            found[member.device] = Sample(
                max(LEAST_S, member.since - member.admitted_at),
                _received(device, owners, member.rollout),
                member.since,
            )
    return found


def _owners(session: Session, rollouts: Iterable[str]) -> dict[str, str]:
    """Return by deployment which of these rollouts it belongs to."""
    row = tables.Deployment
    query = select(row.id, row.rollout).where(col(row.rollout).in_(list(rollouts)))
    return {deployment: rollout or "" for deployment, rollout in session.exec(query)}


def _received(device: tables.Device, owners: Mapping[str, str], rollout: str) -> int | None:
    """Return what a device has received for a rollout, as far as it still says so."""
    report = devices.reported(device)
    counts = [
        each.transfer.received_bytes
        for each in (() if report is None else report.modules)
        if each.transfer is not None and owners.get(each.deployment) == rollout
    ]
    return sum(counts) if counts else None
