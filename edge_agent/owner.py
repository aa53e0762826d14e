"""The owner of the state: what happens goes in, is thought over, written down, and done.

    item ──► step (states.py) ──► journal, if what must survive has changed ──► effects (hands)
                                                                                  │
    timers ◄──────────────────────────────────────────────────────────────────────┘

It has no thread and knows no real part: the agent (agent.py) drives it with a device's own parts,
the simulation with parts that take no time. All methods are one thread's, and quick.
"""

import logging

from msgspec.structs import replace

from edge_agent import desired, handing
from edge_agent.commands import Commands
from edge_agent.company import Company
from edge_agent.mind import events, modules, states
from edge_agent.mind.effects import Forget, Report, StartSources
from edge_agent.mind.events import SOURCES, Event, News, TimerKey
from edge_agent.mind.modules import Module
from edge_agent.mind.states import State
from runtime import messages
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.messages import Ack
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

JOURNAL_AGAIN_S = 5.0
WATCH_S = 30.0
QUIET_S = 5.0
"""After so long without an event, memory is given back."""
_JOURNAL = TimerKey("", "journal")
_WATCH = TimerKey("", "watch")
_TRIM = TimerKey("", "trim")


class Owner:
    """One device's state, and what is done about whatever happens."""

    def __init__(self, device: DeviceId, state: State, company: Company) -> None:
        """Own the state of `device`, as `states.resume` returned it."""
        self._device, self._state, self._company = device, state, company
        self._uplink, self._account = company.uplink, company.account
        self._hands, self._telemetry = company.hands, company.telemetry
        self._timers, self._clock = company.timers, company.clock
        self._commands = Commands(company.hands.do, company.uplink.answer, company.desk)

    @property
    def state(self) -> State:
        """All that is known now."""
        return self._state

    def boot(self, boot_id: str) -> None:
        """Begin: start what ran before. Comes before all else."""
        rebooted = self._state.boot_id not in {"", boot_id}
        self._take(events.Boot(boot_id))
        if (told := self._state.desired) is not None:
            self._uplink.share(told.fleet)
            if rebooted:
                self._uplink.queue(told.fleet)
        self._set(_WATCH, WATCH_S)

    def wait_s(self) -> float | None:
        """Return how long nothing is due; None: until something happens."""
        return self._timers.wait_s(self._clock.monotonic())

    def handle(self, item: Event | News) -> None:
        """Think over one thing that has happened (but StopAsked), and do what follows."""
        match item:
            case events.WorkerChecked() if self._commands.checked(item):
                pass  # on command: it decides nothing
            case News():
                self._note_news(item)
            case Event():
                self._take(item)

    def tick(self) -> None:
        """Do what is due by now."""
        for key in self._timers.take(self._clock.monotonic()):
            self._timer(key)

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
            self._company.journal.write(states.to_save(self._state))
        except OSError as error:
            text = f"journal: cannot be written: {error}: make room on the disk"
            if self._note("journal write", text):
                log.error("journal cannot be written", extra={"reason": str(error)})  # noqa: TRY400 - the disk's fault, no bug here
            self._set(_JOURNAL, JOURNAL_AGAIN_S)
            return
        self._account.generation = self._state.generation
        if self._note("journal write", ""):
            log.info("journal can be written again")

    def _tell(self, before: State) -> None:
        """Have the registry told what has changed, and the log what is new."""
        was = {module.name: module for module in before.modules}
        urgent = False
        for module in self._state.modules:
            old = was.pop(module.name, None)
            if old is None or _outline(old) != _outline(module):
                urgent = True
                if log.isEnabledFor(logging.INFO):
                    _log_phase(module)
        if self._state.modules != before.modules:
            self._uplink.changed(urgent=urgent or bool(was))

    def _timer(self, key: TimerKey) -> None:
        if key == _JOURNAL:
            self._write_down()
        elif key == _TRIM:
            self._company.rest()
        elif key == _WATCH:
            self._watch()
        elif key.kind == SOURCES:
            self._hands.again(key)
        else:
            self._take(events.TimerFired(key))

    def _watch(self) -> None:
        """Rebuild a link that stands and gets nothing through."""
        self._set(_WATCH, WATCH_S)
        if self._uplink.connected and self._telemetry.stalled_since() is not None:
            log.warning("no acknowledgement for too long, making a new connection")
            self._uplink.rebuild()

    def _hear(self, heard: events.Heard) -> None:
        try:
            if heard.about == "ack":
                self._telemetry.on_ack(messages.decode(Ack, heard.payload))
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
        if wanted.generation >= self._state.generation:  # else it is an old message
            self._note("image logins", self._company.logins(wanted.image_logins))
        # They have a file of their own: the journal is written often.
        self._take(events.DesiredReceived(replace(wanted, image_logins=None)))
        self._uplink.share(wanted.fleet)

    def _link_changed(self, reason: str) -> None:
        self._account.link = reason
        if reason:
            self._telemetry.on_disconnected()
        else:
            self._telemetry.on_connected()
            self._take(events.LinkUp())

    def _note(self, about: str, text: str) -> bool:
        """Remember what a person should look at, and have it reported; say whether it is news."""
        news = self._account.note(about, text)
        if news:
            self._uplink.changed(urgent=False)
        return news

    def _set(self, key: TimerKey, delay_s: float) -> None:
        self._timers.set(key, self._clock.monotonic() + delay_s)

    def bundles_in_use(self) -> set[Digest]:
        """Return the bundles whose files must stay on the disk."""
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
