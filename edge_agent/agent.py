"""The agent: one owner thread that holds the state; everybody else puts events in its queue.

    journal ─► Boot ─► workers of what ran ─► telemetry, porter, uplink
                │
    queue ──► step (states.py) ──► journal, if what must survive has changed ──► effects (hands.py)
      ▲                                                                              │
      └──────── uplink, porter, minders, timers ◄────────────────────────────────────┘

Workers die with the thread that calls `run`, so it must be one that lives as long as the process.
"""

import logging
import queue

from edge_agent import assembly, desired, facts, handing
from edge_agent.assembly import Place
from edge_agent.commands import Commands
from edge_agent.hands import SOURCES
from edge_agent.journal import Journal
from edge_agent.mind import events, modules, states
from edge_agent.mind.effects import Forget, Report, StartSources
from edge_agent.mind.events import Event, News, TimerKey
from edge_agent.mind.modules import Module
from edge_agent.settings import AgentSettings
from edge_agent.uplink import Uplink, UplinkHooks
from edge_agent.workers import memory
from runtime import files, messages
from runtime.clock import Clock, SystemClock
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.messages import Ack

log = logging.getLogger(__name__)

STOP_S = 5.0
"""How long workers may drain when the agent ends, and others finish what they do."""
JOURNAL_AGAIN_S = 5.0
WATCH_S = 30.0
QUIET_S = 5.0
"""After so long without an event, memory is given back."""
_JOURNAL = TimerKey("", "journal")
_WATCH = TimerKey("", "watch")
_TRIM = TimerKey("", "trim")


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
    ) -> None:
        """Start nothing yet. `troubles` are what was wrong before, by what they are about."""
        self._uplink, self._clock = uplink, clock or SystemClock()
        self._device = place.device
        self._queue: queue.SimpleQueue[Event | News] = queue.SimpleQueue()
        journal = Journal(files.make_directory(place.data))
        files.sweep_temporaries(place.data)
        saved, trouble = journal.read()
        known = {**(troubles or {}), **({"journal": trouble} if trouble else {})}
        self._journal = journal
        self._state = states.resume(saved, settings.limits)
        self._parts = assembly.assemble(
            place,
            settings,
            uplink,
            self._state,
            clock=self._clock,
            put=self._queue.put,
            keep=self._bundles_in_use,
            troubles=known,
        )
        self._account, self._hands = self._parts.account, self._parts.hands
        self._timers = self._parts.timers
        self._commands = Commands(self._parts.hands.do, uplink.answer)

    def stop(self) -> None:
        """Have `run` end in peace; returns at once, safe in a signal handler."""
        self._queue.put(events.StopAsked())

    def run(self) -> None:
        """Run until `stop`."""
        parts = self._parts
        parts.telemetry.start()
        self._take(events.Boot(facts.boot_id()))
        parts.status.start()
        parts.porter.start()
        parts.control.start()
        self._uplink.start(
            UplinkHooks(
                connected=lambda: self._queue.put(events.LinkChanged("")),
                disconnected=lambda reason: self._queue.put(events.LinkChanged(reason or "down")),
                desired=lambda payload: self._queue.put(events.Heard("desired", payload)),
                ack=lambda payload: self._queue.put(events.Heard("ack", payload)),
                command=lambda payload: self._queue.put(events.Heard("command", payload)),
                compose=self._account.reported,
            )
        )
        self._set(_WATCH, WATCH_S)
        try:
            while self._turn():
                pass
        finally:
            log.info("agent ends")
            parts.shut_down(self._uplink, STOP_S)

    def _turn(self) -> bool:
        """Handle the next thing that happens; return False when it is time to end."""
        try:
            item = self._queue.get(timeout=self._timers.wait_s(self._clock.monotonic()))
        except queue.Empty:
            item = None
        match item:
            case events.StopAsked():
                return False
            case News():
                self._note_news(item)
            case events.WorkerChecked() if self._commands.checked(item):
                pass  # on command: it decides nothing
            case Event():
                self._take(item)
        for key in self._timers.take(self._clock.monotonic()):
            self._timer(key)
        return True

    def _note_news(self, news: News) -> None:
        match news:
            case events.Heard():
                self._hear(news)
            case events.LinkChanged():
                self._link_changed(news.reason)
            case events.SourceTrouble():
                text = news.text and f"source {news.source} of {news.module}: {news.text}"
                self._note(f"source {news.module} {news.source}", text)
            case events.FetchTrouble():
                self._note(f"fetch {news.module}", news.text and f"{news.module}: {news.text}")
            case events.EngineTrouble():
                self._note("engine", news.text and f"engine: {news.text}")
            case events.HandsAsked():
                self._apply(news)

    def _take(self, event: Event) -> None:
        """Step, make it survive, do it."""
        before = self._state
        self._state, todo = states.step(before, event, self._clock.now())
        self._write_down()
        for effect in todo:
            if isinstance(effect, Report):
                self._uplink.changed(urgent=True)
                continue
            if isinstance(effect, Forget | StartSources):
                # Whoever reads now tells anew what cannot be read.
                self._account.forget(f"source {effect.module} ")
            if isinstance(effect, Forget):
                self._note(f"fetch {effect.module}", "")
            self._hands.do(effect)
        if isinstance(event, events.WorkerExited):
            self._commands.ended(event)
        self._account.state = self._state
        self._tell(before)
        self._set(_TRIM, QUIET_S)

    def _apply(self, asked: events.HandsAsked) -> None:
        """Take over what somebody at the device has brought; say whether it is durable."""
        try:
            handing.require_room_for(self._state, asked.applied)
        except InvalidError as error:
            asked.answer(str(error))
            return
        self._take(asked.applied)
        asked.answer(self._account.trouble("journal write"))

    def _write_down(self) -> None:
        """Make the state survive. A disk that refuses stops no worker and no restart of one.

        What is only in memory then is not reported as taken over, and tried again.
        """
        try:
            self._journal.write(states.to_save(self._state))
        except OSError as error:
            text = f"journal: cannot be written: {error}: make room on the disk"
            if self._note("journal write", text):
                log.error("journal cannot be written", extra={"reason": str(error)})  # noqa: TRY400 - the disk's fault, no bug here
            self._set(_JOURNAL, JOURNAL_AGAIN_S)
            return
        self._account.generation = self._state.generation
        if self._note("journal write", ""):
            log.info("journal can be written again")

    def _tell(self, before: states.State) -> None:
        """Have the registry told what has changed, and the log what is new."""
        was = {module.name: module for module in before.modules}
        urgent = False
        for module in self._state.modules:
            old = was.pop(module.name, None)
            if old is None or _outline(old) != _outline(module):
                urgent = True
                _log_phase(module)
        if self._state.modules != before.modules:
            self._uplink.changed(urgent=urgent or bool(was))

    def _timer(self, key: TimerKey) -> None:
        if key == _JOURNAL:
            self._write_down()
        elif key == _TRIM:
            memory.trim()
        elif key == _WATCH:
            self._watch()
        elif key.kind == SOURCES:
            self._hands.again(key)
        else:
            self._take(events.TimerFired(key))

    def _watch(self) -> None:
        """Rebuild a link that stands and gets nothing through."""
        self._set(_WATCH, WATCH_S)
        if self._uplink.connected and self._parts.telemetry.stalled_since() is not None:
            log.warning("no acknowledgement for too long, making a new connection")
            self._uplink.rebuild()

    def _hear(self, heard: events.Heard) -> None:
        try:
            if heard.about == "ack":
                self._parts.telemetry.on_ack(messages.decode(Ack, heard.payload))
                self._note("ack", "")
                return
            if heard.about == "command":
                self._commands.take(heard.payload, self._state)
                self._note("command", "")
                return
            wanted = desired.read(heard.payload, self._device)
        except InvalidError as error:
            if self._note(heard.about, f"{error}; ignored, what ran before runs on"):
                log.warning("message ignored", extra={"about": heard.about, "reason": str(error)})
            return
        self._note("desired", "")
        self._take(events.DesiredReceived(wanted))

    def _link_changed(self, reason: str) -> None:
        self._account.link = reason
        if reason:
            self._parts.telemetry.on_disconnected()
        else:
            self._parts.telemetry.on_connected()
            self._take(events.LinkUp())

    def _note(self, about: str, text: str) -> bool:
        """Remember what a person should look at, and have it reported; say whether it is news."""
        news = self._account.note(about, text)
        if news:
            self._uplink.changed(urgent=False)
        return news

    def _set(self, key: TimerKey, delay_s: float) -> None:
        self._timers.set(key, self._clock.monotonic() + delay_s)

    def _bundles_in_use(self) -> set[Digest]:
        return set().union(*(modules.bundles_in_use(module) for module in self._state.modules))


def _outline(module: Module) -> tuple[object, ...]:
    """Return what of a module the registry is told at once when it changes."""
    return (
        module.shown,
        module.reason,
        module.wanted,
        modules.answering(module),
        module.restarts,
    )


def _log_phase(module: Module) -> None:
    wanted, answers = module.wanted, modules.answering(module)
    log.info(
        "module changed",
        extra={
            "module_name": module.name,
            "phase": module.shown.value if wanted else "stopping",
            "wants": f"{wanted.model}:{wanted.version}" if wanted else "nothing",
            "answers": f"{answers.model}:{answers.version}" if answers else "nothing",
            "reason": module.reason,
        },
    )
