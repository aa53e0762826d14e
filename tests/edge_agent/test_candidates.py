"""A candidate beside a module: what the mind does about it, on a made-up device."""

import msgspec
import pytest

from edge_agent.mind import candidates, effects, events, gate, kept, trialnames
from edge_agent.mind.gate import State
from runtime.candidates import Candidate, CandidateReport, Counts, Gate, Mode, Promote
from runtime.messages import ModuleSpec, Phase
from tests.support import worlds
from tests.support.worlds import World, digest

TRIAL = trialnames.of("m")
ENOUGH = Counts(requests=100, agreed=100, p95_ms=2.0, own_p95_ms=2.0)


def wish(letter: str = "a", beside: str = "b", **settings: object) -> ModuleSpec:
    """Return a wish for one bundle with another as its candidate."""
    rules: dict[str, object] = {"gate": Gate(requests=100), "promote": Promote.BY_GATE}
    version = ord(beside) - ord("a") + 1
    made = Candidate(digest(beside), "digits", version, **(rules | settings))  # type: ignore[arg-type] # as given
    return msgspec.structs.replace(worlds.spec(letter), candidate=made)


def measuring(**settings: object) -> World:
    """Return a device on which a candidate is being measured."""
    world = World()
    world.want(wish(**settings))
    world.run()
    return world


def count(world: World, counts: Counts) -> None:
    """Let the worker that answers say what it counted."""
    world.tell(events.CandidateCounted("m", world.slot("a"), counts))


def told(world: World) -> CandidateReport:
    """Return what the registry is told of the candidate."""
    report = candidates.reports(world.state.modules)[0]
    assert report.candidate is not None
    return report.candidate


def test_a_candidate_is_fetched_checked_and_measured_beside_the_version_that_answers() -> None:
    world = World()
    world.want(wish())
    asked: list[effects.Effect] = []
    while not world.advance(1, timers=False):
        asked += world.done

    assert effects.RunCheck(TRIAL, world.slot("b", TRIAL)) in asked
    (mirror,) = [effect for effect in asked if isinstance(effect, effects.Mirror)]
    assert (mirror.module, mirror.slot) == ("m", world.slot("a"))
    assert world.answering() == {"a"}
    assert (told(world).state, told(world).version) == ("measuring", 2)


def test_the_report_of_a_module_names_no_module_of_its_candidate() -> None:
    world = measuring()

    assert [report.name for report in candidates.reports(world.state.modules)] == ["m"]


def test_a_candidate_that_passes_its_gate_becomes_the_version_by_the_usual_swap() -> None:
    world = measuring()

    count(world, ENOUGH)
    world.run()

    assert world.answering() == {"b"}
    assert (told(world).state, told(world).agreed) == ("promoted", 100)
    assert world.report().version == 2
    assert TRIAL not in [module.name for module in world.state.modules]


def test_a_promotion_survives_a_kill_and_a_newer_word_about_something_else() -> None:
    world = measuring()
    count(world, ENOUGH)
    world.boot()
    world.run()
    world.want(wish(), worlds.spec("x", module="other"))
    world.run()

    assert world.answering() == {"b"}
    assert told(world).state == "promoted"


def test_a_candidate_that_is_no_longer_asked_for_is_measured_again_when_it_is() -> None:
    world = measuring()
    count(world, ENOUGH)
    world.run()
    world.want(worlds.spec("a"))
    world.run()
    before = world.answering()

    world.want(wish())
    world.run()

    assert (before, world.answering()) == ({"a"}, {"a"})
    assert told(world).state == "measuring"


def test_a_candidate_that_is_promoted_by_hand_waits_for_the_hand() -> None:
    world = measuring(promote=Promote.BY_HAND)

    count(world, ENOUGH)
    world.run()

    assert world.answering() == {"a"}
    assert told(world).state == "passed"

    world.want(worlds.spec("b"))
    world.run()

    assert world.answering() == {"b"}
    assert [module.name for module in world.state.modules] == ["m"]


def test_a_candidate_that_fails_its_gate_is_ended_and_stays_out() -> None:
    world = measuring()

    count(world, Counts(requests=10, agreed=8, differed=2, example="row 0"))
    world.run()
    failed = told(world)
    world.boot()
    world.want(wish(), worlds.spec("x", module="other"))
    world.run()

    assert (failed.state, failed.differed) == ("failed", 2)
    assert "agreement of 0.99 over 100 was asked for; the last: row 0" in failed.reason
    assert told(world).state == "failed"
    assert world.answering() == {"a"}
    assert all(process.module != TRIAL for process in world.processes.values())


def test_a_higher_attempt_has_a_failed_candidate_tried_again() -> None:
    world = measuring()
    count(world, Counts(requests=10, errors=10))
    world.run()

    world.want(msgspec.structs.replace(wish(), attempt=1))
    world.run()

    assert (told(world).state, told(world).requests) == ("measuring", 0)


def test_a_candidate_that_dies_is_reported_and_its_module_never_notices() -> None:
    world = measuring()
    own = world.slot("a")

    world.exit(world.slot("b", TRIAL), "memory: used 90 MiB, limit 64 MiB", final=True)
    stopped = world.done
    world.run()

    assert effects.StopMirror("m", own) in stopped
    assert (told(world).state, told(world).reason) == (
        "failed",
        "memory: used 90 MiB, limit 64 MiB",
    )
    assert (world.answering(), world.slot("a"), world.report().restarts) == ({"a"}, own, 0)


def test_a_candidate_that_fails_its_check_is_never_given_an_input() -> None:
    world = World()
    world.want(wish())
    mirrored = False
    while not world.advance(1, timers=False):
        mirrored = mirrored or any(isinstance(each, effects.Mirror) for each in world.done)
        slots = [s for s, p in world.processes.items() if p.module == TRIAL and "check" in p.owes]
        for slot in slots:
            world.answer(slot, failure="output y differs")

    assert not mirrored
    assert told(world).state == "failed"
    assert "output y differs" in told(world).reason


def mirrored(world: World) -> list[effects.Mirror]:
    """Let all happen that does; return how workers were told to mirror meanwhile."""
    asked = [effect for effect in world.done if isinstance(effect, effects.Mirror)]
    while not world.advance(1, timers=True):
        asked += [effect for effect in world.done if isinstance(effect, effects.Mirror)]
    return asked


def test_measuring_goes_on_when_the_worker_that_answers_was_restarted() -> None:
    world = measuring()
    count(world, Counts(requests=5, agreed=5))
    old = world.slot("a")

    world.exit(old)
    (order,) = mirrored(world)
    world.tell(events.CandidateCounted("m", old, ENOUGH))

    assert order.counts == Counts(requests=5, agreed=5)
    assert (told(world).requests, told(world).state) == (5, "measuring")


@pytest.mark.parametrize(("counted", "kept"), [(9, 0), (10, 10), (57, 57)])
def test_after_a_power_cut_measuring_goes_on_from_what_was_written(counted: int, kept: int) -> None:
    """Also: a device that is switched off every evening finds out whether a candidate is good."""
    world = measuring()
    count(world, Counts(requests=counted, agreed=counted, p95_ms=2.0))

    world.boot()
    (order,) = mirrored(world)

    assert (order.counts.requests, order.counts.agreed) == (kept, kept)
    assert (told(world).requests, told(world).state) == (kept, "measuring")


@pytest.mark.parametrize("change", [wish(letter="c"), wish(gate=Gate(requests=200))])
def test_another_version_and_other_rules_have_measuring_begin_anew(change: ModuleSpec) -> None:
    world = measuring()
    count(world, Counts(requests=50, agreed=50))

    world.want(change)
    mirrored(world)

    assert (told(world).requests, told(world).state) == (0, "measuring")


def test_the_counts_of_a_candidate_are_written_now_and_then_and_not_each_time() -> None:
    """Also: flash that lasts for years is not worn out by counters."""
    found = kept.begin(None, by=digest("a"), attempt=0, candidate=Candidate(digest("b"), "m", 2))
    writes = 0
    for requests in range(1, 100_001):
        after = kept.take_over(found, Counts(requests=requests))
        writes += after is not found
        found = after
        assert requests - found.counts.requests <= max(500, requests) / 10

    assert writes < 70


def test_a_promoted_candidate_that_cannot_serve_gives_way_to_the_version_before() -> None:
    world = measuring()
    count(world, ENOUGH)
    while world.module().candidate is None or "check" not in world.processes[world.slot("b")].owes:
        world.advance(1, timers=False)
    world.answer(world.slot("b"), failure="too slow")
    world.run()

    assert world.answering() == {"a"}
    assert world.report().phase is Phase.RUNNING
    assert (told(world).state, "too slow" in told(world).reason) == ("failed", True)


def test_another_candidate_takes_the_place_of_the_first() -> None:
    world = measuring()

    world.want(wish(beside="c"))
    world.run()

    assert {p.spec.bundle[0] for p in world.processes.values() if p.module == TRIAL} == {"c"}
    assert (told(world).version, told(world).state) == (3, "measuring")


def test_a_module_that_is_removed_takes_its_candidate_along() -> None:
    world = measuring()

    world.want()
    world.run()

    assert world.state.modules == ()
    assert world.processes == {}
    assert set(world.forgotten) == {"m", TRIAL}


def test_other_rules_for_the_same_candidate_restart_the_measuring_and_no_process() -> None:
    world = measuring()
    count(world, Counts(requests=50, agreed=50))
    slot = world.slot("b", TRIAL)

    world.want(wish(mode=Mode.CANARY))

    assert effects.Mirror in [type(effect) for effect in world.done]
    assert world.slot("b", TRIAL) == slot
    assert told(world).requests == 0


@pytest.mark.parametrize(
    ("rules", "counts", "state", "words"),
    [
        (Gate(requests=10), Counts(requests=9, agreed=9), State.MEASURING, "9 of 10"),
        (Gate(requests=10), Counts(requests=10, agreed=10), State.PASSED, ""),
        (Gate(requests=100), Counts(requests=5, agreed=4, differed=1), State.MEASURING, "5 of"),
        (Gate(requests=100), Counts(requests=5, agreed=3, errors=2), State.FAILED, "(2 failed)"),
        (
            Gate(requests=1, p95_ms=5),
            Counts(requests=1, agreed=1, p95_ms=6.0),
            State.FAILED,
            "above the gate's p95_ms of 5 ms",
        ),
        (
            Gate(requests=1, p95_ratio=1.2),
            Counts(requests=1, agreed=1, p95_ms=12.6, own_p95_ms=10.0),
            State.FAILED,
            "p95_ratio of 1.2",
        ),
        (
            Gate(requests=1, p95_ratio=1.2),
            Counts(requests=1, agreed=1, p95_ms=0.9, own_p95_ms=0.1),
            State.PASSED,
            "",
        ),
    ],
)
def test_a_gate_says_what_the_counts_mean(
    rules: Gate, counts: Counts, state: State, words: str
) -> None:
    verdict = gate.judge(Candidate(digest("b"), "m", 2, gate=rules), counts)

    assert (verdict.state, words in verdict.reason) == (state, True)
