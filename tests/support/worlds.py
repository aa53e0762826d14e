"""A made-up device: does what `step` asks, and lets a test say how each thing turns out."""

from dataclasses import dataclass, field

from edge_agent.mind import effects, events, modules, states
from edge_agent.mind.events import TimerKey
from edge_agent.mind.modules import Module
from runtime.digests import Digest
from runtime.messages import Desired, ModuleReport, ModuleSpec


def digest(letter: str) -> Digest:
    """Return a digest that is easy to read: one letter, 64 times."""
    return Digest(letter * 64)


def spec(
    letter: str, *, module: str = "m", attempt: int = 0, sources: tuple[str, ...] | None = None
) -> ModuleSpec:
    """Return a wish for bundle `letter`."""
    return ModuleSpec(
        name=module,
        bundle=digest(letter),
        model="digits",
        version=ord(letter) - ord("a") + 1,
        deployment="d1",
        attempt=attempt,
        sources=sources,
    )


@dataclass
class Process:
    """One worker process, as it really is."""

    spec: ModuleSpec
    module: str
    accepting: bool = False
    reading: bool = False
    owes: list[str] = field(default_factory=list)
    """What it was asked for and has not answered: load, check, accept, hold, sources, exit."""


class World:
    """State, processes, jobs and timers; `journal` is what a killed agent would find."""

    def __init__(self, limits: states.Limits | None = None) -> None:
        self.limits = limits or states.Limits()
        self.state = states.resume(states.SavedState(), self.limits)
        self.journal = states.to_save(self.state)
        self.now = 1_800_000_000.0
        self.processes: dict[int, Process] = {}
        self.jobs: dict[int, effects.Fetch | effects.Verify] = {}
        self.timers: dict[TimerKey, effects.SetTimer] = {}
        self.done: list[effects.Effect] = []
        self.forgotten: list[str] = []
        self.boots = 0
        self.boot()

    def boot(self, *, device: str = "boot-1") -> None:
        """Kill the agent and everything it started; start it from its journal."""
        self.processes, self.jobs, self.timers = {}, {}, {}
        self.state = states.resume(self.journal, self.limits)
        self.boots += 1
        self.tell(events.Boot(device))

    def tell(self, event: events.Event) -> tuple[effects.Effect, ...]:
        """Step once, journal, do the effects."""
        self.now += 1.0
        self.state, todo = states.step(self.state, event, self.now)
        self.journal = states.to_save(self.state)
        for effect in todo:
            self._do(effect)
        self.done = list(todo)
        return todo

    def want(self, *specs: ModuleSpec, generation: int | None = None) -> None:
        """Let the registry publish a desired state."""
        number = self.state.generation + 1 if generation is None else generation
        self.tell(events.DesiredReceived(Desired("dev", number, self.now, tuple(specs))))

    def module(self, name: str = "m") -> Module:
        """Return what the agent knows of a module."""
        return next(module for module in self.state.modules if module.name == name)

    def report(self, name: str = "m") -> ModuleReport:
        """Return what the registry is told of a module."""
        told = modules.report(self.module(name))
        assert told is not None
        return told

    def answering(self, name: str = "m") -> set[str]:
        """Return the letters of the bundles that really answer."""
        return {
            process.spec.bundle[0]
            for process in self.processes.values()
            if process.module == name and process.accepting
        }

    def slot(self, letter: str, name: str = "m") -> int:
        """Return the newest process of a bundle."""
        return max(
            slot
            for slot, process in self.processes.items()
            if process.module == name and process.spec.bundle[0] == letter
        )

    def finish_job(self, job: int, *, failure: str = "", retryable: bool = True) -> None:
        """Let a fetch or verification end."""
        effect = self.jobs.pop(job)
        if failure:
            self.tell(events.JobFailed(effect.module, job, failure, retryable))
        elif isinstance(effect, effects.Fetch):
            self.tell(events.Fetched(effect.module, job))
        else:
            self.tell(events.Verified(effect.module, job))

    def answer(self, slot: int, *, failure: str = "") -> None:
        """Let a process do the first thing it owes, well or badly."""
        process = self.processes[slot]
        owed, name = process.owes.pop(0), process.module
        if owed == "exit":
            self.exit(slot, "stopped")
        elif owed == "load" and failure:
            self.tell(events.WorkerFailed(name, slot, failure))
        elif owed == "load":
            self.tell(events.WorkerLoaded(name, slot))
        elif owed == "check":
            self.tell(events.WorkerChecked(name, slot, not failure, failure))
        elif owed == "accept":
            process.accepting = True
            self.tell(events.WorkerAccepting(name, slot))
        elif owed == "hold":
            process.accepting = False
            self.tell(events.WorkerHeld(name, slot))
        else:
            process.reading = False
            self.tell(events.SourcesStopped(name, slot))

    def exit(
        self,
        slot: int,
        text: str = "exit code -9",
        *,
        final: bool = False,
        blameless: bool = False,
    ) -> None:
        """Let a process end."""
        process = self.processes.pop(slot)
        self.tell(events.WorkerExited(process.module, slot, text, final, blameless))

    def fire(self, kind: str, *, name: str = "m") -> None:
        """Let the newest timer of a kind run out."""
        key = max(
            (key for key in self.timers if (key.module, key.kind) == (name, kind)),
            key=lambda key: key.slot,
        )
        del self.timers[key]
        self.tell(events.TimerFired(key))

    def run(self, *, timers: bool = False, steps: int = 300) -> None:
        """Let all go well until nothing is left to do."""
        if not self.advance(steps, timers=timers):
            raise AssertionError(f"does not come to rest: {self.state}")

    def advance(self, steps: int, *, timers: bool) -> bool:
        """Let so many things go well; return whether nothing is left to do."""
        for _ in range(steps):
            owing = [slot for slot, process in self.processes.items() if process.owes]
            if self.jobs:
                self.finish_job(min(self.jobs))
            elif owing:
                self.answer(min(owing))
            elif timers and self.timers:
                self.tell(events.TimerFired(self.timers.pop(min(self.timers, key=str)).key))
            else:
                return True
        return False

    def _do(self, effect: effects.Effect) -> None:
        match effect:
            case effects.Fetch() | effects.Verify():
                self.jobs[effect.job] = effect
            case effects.CancelJob():
                self.jobs.pop(effect.job, None)
            case effects.SetTimer():
                self.timers[effect.key] = effect
            case effects.Forget():
                self.forgotten.append(effect.module)
            case effects.StartWorker():
                self.processes[effect.slot] = Process(effect.spec, effect.module, owes=["load"])
            case effects.WorkerEffect() if effect.slot in self.processes:
                self._do_to(self.processes[effect.slot], effect)
            case _:
                pass

    def _do_to(self, process: Process, effect: effects.WorkerEffect) -> None:
        match effect:
            case effects.RunCheck():
                process.owes.append("check")
            case effects.Accept():
                process.owes.append("accept")
            case effects.Hold():
                process.owes = [owed for owed in process.owes if owed != "accept"] + ["hold"]
            case effects.StartSources():
                process.reading = True
            case effects.StopSources():
                process.owes.append("sources")
            case effects.StopWorker():
                process.owes = [owed for owed in process.owes if owed == "hold"] + ["exit"]
                process.accepting = "hold" in process.owes
