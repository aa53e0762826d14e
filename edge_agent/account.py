"""What the agent says of itself: reports to the registry, status to the command line."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edge_agent import facts, vitals
from edge_agent.mind import modules
from edge_agent.mind.states import State
from edge_agent.status import Status
from edge_agent.telemetry.path import TelemetryStats
from runtime.clock import Clock
from runtime.messages import Reported
from runtime.topics import DeviceId

MAX_TROUBLES = 50
MAX_TROUBLE_CHARS = 500


@dataclass(frozen=True)
class Place:
    """Who this device is and where things are."""

    data: Path
    device: DeviceId
    base_url: str = ""
    """Of the registry: download URLs without a host are relative to it."""
    ca_file: Path | None = None
    certificate_not_after: float | None = None
    """Seconds since 1970."""


class Records(Protocol):
    """Where records wait."""

    def stats(self) -> TelemetryStats:
        """Return how many, how old, and what was dropped."""
        ...


class Doors(Protocol):
    """Where applications ask."""

    def troubles(self) -> list[str]:
        """Return what is wrong with them."""
        ...


class Account:
    """What is known, for any thread to ask; only the owner thread changes it."""

    def __init__(
        self,
        place: Place,
        state: State,
        *,
        reserve_mb: int,
        clock: Clock,
        telemetry: Records,
        listeners: Doors,
        troubles: dict[str, str],
        about: dict[str, str] | None = None,
    ) -> None:
        """`troubles` are what was wrong from the start, by what they are about; `about`: facts."""
        self._place, self._reserve_mb, self._clock = place, reserve_mb, clock
        self._telemetry, self._listeners = telemetry, listeners
        self._facts = facts.collect() if about is None else about
        self.state = state
        self.generation = state.generation
        """The newest that is durable."""
        self.link = "not connected yet"
        """Why the registry is not reached; empty: it is."""
        self._troubles = troubles

    def trouble(self, about: str) -> str:
        """Return what is wrong with something; empty: nothing."""
        return self._troubles.get(about, "")

    def note(self, about: str, text: str) -> bool:
        """Remember what is wrong with something (empty: it is over); say whether that is news."""
        text = text[:MAX_TROUBLE_CHARS]
        if self.trouble(about) == text:
            return False
        # Replaced as a whole: other threads read it.
        others = {key: value for key, value in self._troubles.items() if key != about}
        self._troubles = {**others, about: text} if text else others
        return True

    def forget(self, prefix: str) -> None:
        """Forget whatever is wrong with things whose names begin so."""
        self._troubles = {
            about: text for about, text in self._troubles.items() if not about.startswith(prefix)
        }

    def reported(self) -> Reported:
        """Return the device's state as it is now."""
        state, now, stats = self.state, self._clock.now(), self._telemetry.stats()
        told = [modules.report(module) for module in state.modules]
        found = self._board_troubles(now)
        found += [*self._troubles.values(), *self._listeners.troubles(), *stats.troubles]
        return Reported(
            device=self._place.device,
            generation=self.generation,
            at=now,
            modules=tuple(report for report in told if report is not None),
            facts=self._facts,
            vitals={
                **self._vitals(),
                "outbox_records": stats.outbox_records,
                "outbox_bytes": stats.outbox_bytes,
                "outbox_oldest_s": round(stats.oldest_s, 1),
            },
            drops=dict(stats.drops),
            troubles=tuple(found[:MAX_TROUBLES]),
        )

    def _vitals(self) -> dict[str, float]:
        return vitals.collect(self._place.data)

    def _board_troubles(self, now: float) -> list[str]:
        return vitals.troubles(
            self._place.data,
            now=now,
            reserve_mb=self._reserve_mb,
            certificate_not_after=self._place.certificate_not_after,
        )

    def status(self) -> Status:
        """Return what `packhorse-agent status` shows."""
        return Status(os.getpid(), not self.link, self.link, self.reported())
