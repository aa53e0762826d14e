"""The agent: one owner thread that holds the state; everybody else puts events in its queue.

    journal ─► Boot ─► workers of what ran ─► telemetry, porter, uplink
                │
    queue ──► owner (owner.py): step, journal, effects ──► hands (hands.py)
      ▲                                                       │
      └──────── uplink, porter, minders, timers ◄─────────────┘

Workers die with the thread that calls `run`, so it must be one that lives as long as the process.
"""

import logging
import queue

from edge_agent import assembly, facts
from edge_agent.assembly import Place
from edge_agent.host.proving import Proving
from edge_agent.journal import Journal
from edge_agent.mind import events, states
from edge_agent.mind.events import Event, News
from edge_agent.owner import Owner
from edge_agent.remote.remote import Remote
from edge_agent.servicemanager import Notifier
from edge_agent.settings import AgentSettings
from edge_agent.uplink import Uplink, UplinkHooks
from runtime import files
from runtime.clock import Clock, SystemClock
from runtime.digests import Digest

log = logging.getLogger(__name__)

STOP_S = 5.0
"""How long workers may drain when the agent ends, and others finish what they do."""


class Agent:
    """Everything on one device. Make it, call `run`; `stop` may be called from anywhere."""

    def __init__(
        self,
        place: Place,
        settings: AgentSettings,
        uplink: Uplink,
        *,
        clock: Clock | None = None,
        troubles: dict[str, str] | None = None,
        notifier: Notifier | None = None,
        proving: Proving | None = None,
    ) -> None:
        """Start nothing yet. `troubles` are what was wrong before, by what they are about."""
        self._uplink, self._notifier = uplink, notifier or Notifier()
        self._proving = proving or Proving(None)
        self._queue: queue.SimpleQueue[Event | News] = queue.SimpleQueue()
        journal, clock = Journal(files.make_directory(place.data)), clock or SystemClock()
        files.sweep_temporaries(place.data)
        saved, trouble = journal.read()
        known = {**(troubles or {}), **({"journal": trouble} if trouble else {})}
        state = states.resume(saved, settings.limits)
        self._parts = assembly.assemble(
            place,
            settings,
            uplink,
            state,
            clock=clock,
            put=self._queue.put,
            keep=self._bundles_in_use,
            troubles=known,
        )
        self._remote = Remote.open(
            place, settings, uplink, self._parts, put=self._queue.put, clock=clock
        )
        company = self._parts.company(journal, uplink, clock, self._remote.desk)
        self._owner = Owner(place.device, state, company)

    @property
    def begins_again(self) -> bool:
        """Whether `run` ended so that the process shall start anew."""
        return self._remote.restarting.again

    def stop(self) -> None:
        """Have `run` end in peace; returns at once, safe in a signal handler."""
        self._queue.put(events.StopAsked())

    def begin_again(self) -> None:
        """Have `run` end for a fresh process to begin; safe in a signal handler."""
        self._remote.restarting.agent()

    def run(self) -> None:
        """Run until `stop`."""
        parts = self._parts
        parts.telemetry.start()
        self._owner.boot(facts.boot_id())
        parts.status.start()
        parts.porter.start()
        parts.control.start()
        self._remote.desk.start()
        self._uplink.start(
            UplinkHooks(
                connected=lambda: self._queue.put(events.LinkChanged("")),
                disconnected=lambda reason: self._queue.put(events.LinkChanged(reason or "down")),
                desired=lambda payload: self._queue.put(events.Heard("desired", payload)),
                ack=lambda payload: self._queue.put(events.Heard("ack", payload)),
                command=lambda payload: self._queue.put(events.Heard("command", payload)),
                compose=parts.account.reported,
            )
        )
        self._notifier.ready()
        try:
            while self._turn():
                self._notifier.alive()
                if self._proving.look(linked=self._uplink.connected):
                    self.begin_again()
        finally:
            if not self.begins_again:
                self._notifier.stopping()
            log.info("agent ends")
            self._remote.desk.stop()
            parts.shut_down(self._uplink, STOP_S)

    def _turn(self) -> bool:
        """Handle the next thing that happens; return False when it is time to end."""
        try:
            item = self._queue.get(timeout=self._sleep_s())
        except queue.Empty:
            item = None
        if isinstance(item, events.StopAsked):
            return False
        if item is not None:
            self._owner.handle(item)
        self._owner.tick()
        return True

    def _sleep_s(self) -> float | None:
        """Return how long nothing has to be done; None: until something happens."""
        return self._notifier.within(self._proving.within(self._owner.wait_s()))

    def _bundles_in_use(self) -> set[Digest]:
        return self._owner.bundles_in_use()
