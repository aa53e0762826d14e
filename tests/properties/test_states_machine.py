"""The agent's mind against a device on which anything happens, in any order."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from edge_agent.mind import effects, events, modules, states
from edge_agent.mind.modules import Stage
from runtime import messages
from runtime.messages import Desired, ModuleSpec, Phase
from tests.support.worlds import World, digest, spec

LETTERS = st.sampled_from("abc")
MODULES = ("m", "n")
MAY_SILENCE = events.WorkerExited | events.WorkerFailed | events.TimerFired | events.RestartAsked


class Watched(World):
    """A world that checks every step as it happens."""

    def tell(self, event: events.Event) -> tuple[effects.Effect, ...]:
        before = {name: self.answering(name) for name in MODULES}
        todo = super().tell(event)
        for effect in todo:
            if isinstance(effect, effects.Fetch):
                module = self.module(effect.module)
                assert module.pursued is not None
                mends = modules.same(module.pursued, module.running)
                assert mends or modules.refusal(module, module.pursued) is None
        if not isinstance(event, MAY_SILENCE):
            for module in self.state.modules:
                if before[module.name] and module.wanted is not None:
                    assert self.answering(module.name), f"{event} silenced {module.name}"
        return todo


class AgentMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = Watched(states.Limits(crash_limit=3))

    @rule(
        letters=st.tuples(LETTERS, LETTERS | st.none()) | st.just((None, None)),
        attempt=st.integers(0, 2),
    )
    def want(self, letters: tuple[str | None, str | None], attempt: int) -> None:
        pairs = zip(MODULES, letters, strict=True)
        self.world.want(
            *(spec(letter, module=name, attempt=attempt) for name, letter in pairs if letter)
        )

    @rule(letter=LETTERS, back=st.integers(1, 3))
    def old_message(self, letter: str, back: int) -> None:
        generation = self.world.state.generation - back
        before = self.world.state.desired
        self.world.tell(
            events.DesiredReceived(Desired("dev", generation, self.world.now, (spec(letter),)))
        )
        if generation < self.world.state.generation:
            assert self.world.journal.desired == before

    @rule(letter=LETTERS, name=st.sampled_from(MODULES))
    def somebody_applies_a_file(self, letter: str, name: str) -> None:
        desired = self.world.state.desired
        self.world.tell(events.HandApplied(name, digest(letter), "digits", 1))
        wanted = self.world.module(name).wanted
        assert wanted is not None
        assert (wanted.bundle, wanted.deployment) == (digest(letter), messages.BY_HAND)
        assert modules.refusal(self.world.module(name), wanted) is None
        assert self.world.journal.desired == desired

    @rule(steps=st.integers(1, 25), timers=st.booleans())
    def all_goes_well_for_a_while(self, steps: int, *, timers: bool) -> None:
        self.world.advance(steps, timers=timers)

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), failure=st.sampled_from(["", "", "", "cut", "gone"]))
    def job_ends(self, data: st.DataObject, failure: str) -> None:
        job = data.draw(st.sampled_from(sorted(self.world.jobs)))
        self.world.finish_job(job, failure=failure, retryable=failure == "cut")

    @precondition(lambda self: any(process.owes for process in self.world.processes.values()))
    @rule(data=st.data(), well=st.sampled_from([True, True, True, False]))
    def process_answers(self, data: st.DataObject, *, well: bool) -> None:
        owing = [slot for slot, process in self.world.processes.items() if process.owes]
        slot = data.draw(st.sampled_from(owing))
        self.world.answer(slot, failure="" if well else "bad model")

    @precondition(lambda self: self.world.processes)
    @rule(data=st.data(), final=st.booleans())
    def process_dies(self, data: st.DataObject, *, final: bool) -> None:
        self.world.exit(data.draw(st.sampled_from(sorted(self.world.processes))), final=final)

    @precondition(lambda self: self.world.timers)
    @rule(data=st.data())
    def timer_fires(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(sorted(self.world.timers, key=str)))
        del self.world.timers[key]
        self.world.tell(events.TimerFired(key))

    @rule(name=st.sampled_from(MODULES))
    def somebody_restarts_a_module(self, name: str) -> None:
        before = [module.blames for module in self.world.state.modules]
        self.world.tell(events.RestartAsked(name))
        assert [module.blames for module in self.world.state.modules] == before

    @rule()
    def link_comes_up(self) -> None:
        self.world.tell(events.LinkUp())

    @rule(device=st.sampled_from(["boot-1", "boot-2"]))
    def power_cut(self, device: str) -> None:
        self.world.boot(device=device)

    @invariant()
    def one_process_at_most_reads_the_sources(self) -> None:
        for name in MODULES:
            reading = [p for p in self.world.processes.values() if p.module == name and p.reading]
            assert len(reading) <= 1

    @invariant()
    def every_process_is_known_and_no_other(self) -> None:
        known = {
            worker.slot for module in self.world.state.modules for worker in modules.workers(module)
        }
        assert known == set(self.world.processes)

    @invariant()
    def what_runs_has_a_process_or_a_timer_that_starts_one(self) -> None:
        for module in self.world.state.modules:
            if module.running is not None and module.active is None:
                assert module.resting
                assert any(
                    (key.module, key.kind) == (module.name, "restart") for key in self.world.timers
                )

    @invariant()
    def nothing_else_answers_where_a_version_is_said_to_run(self) -> None:
        for module in self.world.state.modules:
            told = modules.report(module)
            if told is not None and told.phase is Phase.RUNNING:
                assert told.running is not None
                assert self.world.answering(module.name) <= {told.bundle[0]}

    @invariant()
    def at_most_one_candidate_is_tried(self) -> None:
        assert sum(module.candidate is not None for module in self.world.state.modules) <= 1

    @invariant()
    def the_journal_restores_what_counts(self) -> None:
        resumed = states.resume(self.world.journal, self.world.limits)
        assert states.to_save(resumed) == self.world.journal

    def teardown(self) -> None:
        """Let all go well from here: everything ends where it is wanted, or says why not."""
        self.world.run(timers=True)
        for module in self.world.state.modules:
            assert module.wanted is not None
            self.at_rest(module.name, module.wanted)

    def at_rest(self, name: str, wanted: ModuleSpec) -> None:
        module = self.world.module(name)
        told = self.world.report(name)
        assert module.candidate is None
        assert module.leaving == ()
        assert told.phase in {Phase.RUNNING, Phase.FAILED}
        if told.phase is Phase.FAILED:
            assert told.reason
            assert modules.refusal(module, wanted) is not None
        if module.running is not None:
            assert module.active is not None
            assert module.active.stage is Stage.SERVING
            assert self.world.answering(name) == {module.running.bundle[0]}


TestAgent = AgentMachine.TestCase
TestAgent.settings = settings(max_examples=200, stateful_step_count=50)
