import pytest

from edge_agent.mind import effects, events, states
from edge_agent.mind.modules import Stage
from runtime.messages import Desired, Phase, RunningVersion
from tests.support.worlds import World, digest, spec


def kinds(world: World) -> list[str]:
    return [type(effect).__name__ for effect in world.done]


def running(letter: str = "a") -> World:
    """Return a device on which one bundle has been running long enough to be trusted."""
    world = World()
    world.want(spec(letter))
    world.run(timers=True)
    return world


def soaking() -> World:
    """Return a device that has just switched from a to b."""
    world = running()
    world.want(spec("b"))
    world.run()
    return world


def staged(world: World, name: str) -> int:
    """Have a version on the disk, and verified; return the slot of its worker."""
    world.want(spec(name))
    world.finish_job(min(world.jobs))
    world.finish_job(min(world.jobs))
    return world.slot(name)


def test_a_wanted_bundle_goes_through_every_phase_in_order() -> None:
    world = World()
    world.want(spec("a"))
    seen = [world.report().phase]
    while world.jobs or any(process.owes for process in world.processes.values()):
        if world.jobs:
            world.finish_job(min(world.jobs))
        else:
            world.answer(min(world.processes))
        if world.report().phase is not seen[-1]:
            seen.append(world.report().phase)

    assert seen == [
        Phase.FETCHING,
        Phase.VERIFYING,
        Phase.STAGED,
        Phase.CHECKING,
        Phase.RUNNING,
    ]
    assert world.report().running is not None
    assert world.report().reason == ""


def test_the_old_version_answers_until_the_new_one_takes_traffic() -> None:
    world = running("a")
    old = world.slot("a")
    new = staged(world, "b")
    world.answer(new)
    assert world.answering() == {"a"}
    world.answer(new)
    assert kinds(world) == ["Accept"]
    assert world.answering() == {"a"}
    assert world.report().running == RunningVersion(digest("a"), "digits", 1)

    world.answer(new)

    assert "Hold" in kinds(world)
    assert world.answering() == {"a", "b"}
    told = world.report()
    assert (told.phase, told.running) == (Phase.CHECKING, RunningVersion(digest("a"), "digits", 1))

    world.answer(old)

    assert world.answering() == {"b"}
    assert world.report().phase is Phase.RUNNING


def test_an_old_version_that_ends_instead_of_yielding_answers_no_more() -> None:
    world = running("a")
    new = staged(world, "b")
    for _ in range(3):
        world.answer(new)

    world.exit(world.slot("a"))

    assert world.report().running == RunningVersion(digest("b"), "digits", 2)
    assert world.report().phase is Phase.RUNNING


def test_a_version_that_is_wanted_again_while_it_yields_takes_the_traffic_back() -> None:
    world = running("a")
    old = world.slot("a")
    new = staged(world, "b")
    for _ in range(3):
        world.answer(new)

    world.want(spec("a", attempt=1))
    world.run()

    assert (world.slot("a"), world.answering()) == (old, {"a"})
    assert world.report().phase is Phase.RUNNING


def test_what_is_stopped_for_a_trial_is_not_reported_as_running_until_it_runs_again() -> None:
    world = running("a")
    old = world.slot("a")
    new = staged(world, "b")
    world.answer(new)

    world.tell(events.WorkerRests("m", old))
    world.tell(events.WorkerWaits("m", new, "container main is not good yet"))
    told = world.report()
    assert (told.phase, told.running) == (Phase.CHECKING, None)
    assert told.reason.startswith("container main is not good yet; ")
    assert "is stopped while this one is tried (start: stop-then-start)" in told.reason
    assert not told.retrying

    world.tell(events.WorkerChecked("m", new, False, "no light"))
    assert world.report().running is None
    world.tell(events.WorkerAccepting("m", old))
    told = world.report()
    assert (told.phase, told.reason) == (Phase.FAILED, "check: no light")
    assert told.running == RunningVersion(digest("a"), "digits", 1)


def test_what_was_stopped_for_a_trial_stays_at_hand_until_the_soak_time_is_over() -> None:
    world = running("a")
    old = world.slot("a")
    world.answer(staged(world, "b"))
    world.tell(events.WorkerRests("m", old))
    world.answer(world.slot("b"))
    world.answer(world.slot("b"))

    held = world.module()
    assert held.active is not None
    assert held.warm is not None
    assert (held.active.stage, held.warm.stage) == (Stage.SERVING, Stage.HELD)


def test_a_module_whose_turn_has_not_come_says_what_it_waits_for() -> None:
    world = World()
    world.want(spec("a", module="one"), spec("b", module="two"))
    while world.jobs:
        world.finish_job(min(world.jobs))

    reasons = {world.report(name).reason for name in ("one", "two")}
    assert reasons == {"", "waits until another module of this device is tried"}


def test_sources_are_handed_over_only_when_the_old_one_has_stopped_reading() -> None:
    world = running("a")
    old = world.slot("a")
    new = staged(world, "b")
    for _ in range(3):
        world.answer(new)
    assert world.processes[old].owes == ["hold", "sources"]
    world.answer(old)
    assert not world.processes[new].reading

    world.answer(old)

    assert world.processes[new].reading
    assert not world.processes[old].reading


def test_sources_are_handed_over_when_the_old_one_dies_instead_of_stopping() -> None:
    world = running("a")
    old = world.slot("a")
    new = staged(world, "b")
    for _ in range(3):
        world.answer(new)

    world.exit(old)

    assert world.processes[new].reading


def test_the_old_version_stays_loaded_until_the_soak_time_is_over() -> None:
    world = soaking()
    old = world.slot("a")
    assert world.module().previous == spec("a")

    world.fire("soak")
    world.run()

    assert old not in world.processes
    assert world.module().previous == spec("a")
    assert world.answering() == {"b"}


def test_a_failed_check_refuses_the_bundle_and_the_old_version_runs_on() -> None:
    world = running("a")
    world.answer(staged(world, "b"))
    world.answer(world.slot("b"), failure="outputs differ by 0.3")
    world.run(timers=True)

    told = world.report()
    assert (told.phase, told.reason) == (Phase.FAILED, "check: outputs differ by 0.3")
    assert told.running == RunningVersion(digest("a"), "digits", 1)
    assert not told.retrying
    assert world.answering() == {"a"}


def refused() -> World:
    world = running("a")
    world.want(spec("b"))
    world.finish_job(min(world.jobs))
    world.finish_job(min(world.jobs))
    world.answer(world.slot("b"), failure="no such operator")
    world.run(timers=True)
    return world


def test_a_refused_bundle_is_not_fetched_again_however_it_is_asked_for() -> None:
    world = refused()
    world.want(spec("a"))
    world.run()

    world.want(spec("b"))

    assert not world.jobs
    assert (world.report().phase, world.report().reason) == (Phase.FAILED, "no such operator")
    world.boot()
    assert not world.jobs
    assert world.report().phase is Phase.FAILED


def test_a_higher_attempt_has_a_refused_bundle_tried_again() -> None:
    world = refused()

    world.want(spec("b", attempt=1))
    world.run()

    assert world.report().phase is Phase.RUNNING
    assert world.answering() == {"b"}


def test_another_bundle_is_tried_after_a_refusal() -> None:
    world = refused()

    world.want(spec("c"))
    world.run()

    assert world.answering() == {"c"}


@pytest.mark.parametrize(
    ("kind", "answers", "words"),
    [("start", 0, "did not load within 120 s"), ("check", 1, "check did not end within 120 s")],
)
def test_a_candidate_that_takes_too_long_is_refused(kind: str, answers: int, words: str) -> None:
    world = running("a")
    world.want(spec("b"))
    world.finish_job(min(world.jobs))
    world.finish_job(min(world.jobs))
    for _ in range(answers):
        world.answer(world.slot("b"))

    world.fire(kind)
    world.run()

    assert world.report().phase is Phase.FAILED
    assert words in world.report().reason
    assert world.answering() == {"a"}


def test_a_candidate_over_its_memory_limit_is_refused_at_once() -> None:
    world = running("a")
    world.want(spec("b"))
    world.finish_job(min(world.jobs))
    world.finish_job(min(world.jobs))

    world.exit(world.slot("b"), "memory: used 300 MiB", final=True)
    world.run()

    assert (world.report().phase, world.report().reason) == (Phase.FAILED, "memory: used 300 MiB")


def test_a_candidate_that_dies_without_a_word_is_tried_again_and_refused_in_the_end() -> None:
    world = running("a")
    world.want(spec("b"))
    world.finish_job(min(world.jobs))
    world.finish_job(min(world.jobs))
    world.exit(world.slot("b"))
    assert world.report().retrying
    for _ in range(3):
        world.exit(world.slot("b"))
        world.fire("retry")
    world.exit(world.slot("b"))

    assert world.report().phase is Phase.FAILED
    assert "crash loop: 5 crashes" in world.report().reason
    assert world.answering() == {"a"}


def test_a_candidate_that_fails_through_no_fault_of_its_own_is_tried_for_ever() -> None:
    world = running("a")
    world.want(spec("b"))
    world.finish_job(min(world.jobs))
    world.finish_job(min(world.jobs))
    for _ in range(20):
        world.exit(world.slot("b"), "the engine is away", blameless=True)
        assert (world.report().phase, world.report().reason) == (
            Phase.STAGED,
            "the engine is away",
        )
        assert world.report().retrying
        world.fire("retry")
    world.run()

    assert world.answering() == {"b"}
    assert world.journal.modules[0].blames == ()


def test_what_runs_and_fails_through_no_fault_of_its_own_is_restarted_and_not_counted() -> None:
    world = running("a")
    for _ in range(20):
        world.exit(world.slot("a"), "the engine is away", blameless=True)
        assert world.report().reason == "the engine is away"
        world.fire("restart")
    world.run()

    assert world.answering() == {"a"}
    assert (world.report().phase, world.report().reason) == (Phase.RUNNING, "")
    assert (world.report().restarts, world.journal.modules[0].blames) == (0, ())


def test_the_network_is_tried_for_ever_and_at_once_when_it_comes_back() -> None:
    world = World()
    world.want(spec("a"))
    waits = []
    for _ in range(12):
        world.finish_job(min(world.jobs), failure="registry not reached")
        assert (world.report().phase, world.report().retrying) == (Phase.FETCHING, True)
        assert world.report().reason == "registry not reached"
        (timer,) = [timer for timer in world.timers.values() if timer.key.kind == "retry"]
        waits.append(timer.delay_s)
        assert timer.jitter
        world.fire("retry")
    world.finish_job(min(world.jobs), failure="registry not reached")

    world.tell(events.LinkUp())

    assert waits[:4] == [1, 2, 4, 8]
    assert waits[-1] == 300
    assert kinds(world) == ["Fetch"]


def test_a_bundle_that_cannot_be_had_is_refused() -> None:
    world = running("a")
    world.want(spec("b"))

    world.finish_job(min(world.jobs), failure="no such bundle", retryable=False)

    assert (world.report().phase, world.report().reason) == (Phase.FAILED, "no such bundle")


def test_damaged_files_are_fetched_again() -> None:
    world = World()
    world.want(spec("a"))
    world.finish_job(min(world.jobs))
    (job,) = world.jobs

    world.tell(events.JobFailed("m", job, "model.onnx is damaged", retryable=True, refetch=True))

    assert world.report().phase is Phase.FETCHING
    del world.jobs[job]
    world.fire("retry")
    assert kinds(world) == ["Fetch"]


def test_a_crash_restarts_at_once_and_then_ever_more_slowly() -> None:
    world = running("a")
    world.exit(world.slot("a"))
    assert "StartWorker" in kinds(world)
    waits = []
    for _ in range(3):
        world.run()
        world.exit(world.slot("a"))
        waits += [effect.delay_s for effect in world.done if isinstance(effect, effects.SetTimer)]
        world.fire("restart")
    world.run()

    assert waits == [1, 2, 4]
    assert world.answering() == {"a"}
    assert world.report().restarts == 4


def test_stable_running_forgives_crashes() -> None:
    world = running("a")
    world.exit(world.slot("a"))
    world.run()
    assert world.journal.modules[0].blames

    world.fire("stable")

    assert world.journal.modules[0].blames == ()


def test_a_crash_in_the_soak_time_switches_back_without_starting_a_process() -> None:
    world = soaking()
    old = world.slot("a")

    world.exit(world.slot("b"))

    assert effects.Accept("m", old) in world.done
    world.answer(old)
    assert world.answering() == {"a"}
    world.run()
    assert world.answering() == {"b"}
    assert world.report().phase is Phase.RUNNING


def test_a_bundle_that_crashes_whenever_it_serves_is_refused_and_the_old_one_stays() -> None:
    world = soaking()
    for _ in range(5):
        world.exit(world.slot("b"))
        if any(key.kind == "retry" for key in world.timers):
            world.fire("retry")
        world.run()

    assert world.report().phase is Phase.FAILED
    assert world.answering() == {"a"}
    assert world.report().running == RunningVersion(digest("a"), "digits", 1)


def test_a_crash_before_it_stood_stable_falls_back_to_what_is_on_the_disk() -> None:
    world = soaking()
    world.boot()
    world.run()
    assert world.answering() == {"b"}

    world.exit(world.slot("b"))

    assert next(e.spec for e in world.done if isinstance(e, effects.StartWorker)) == spec("a")
    world.run()
    assert world.answering() == {"b"}


def test_a_crash_loop_long_after_the_switch_rolls_back_across_restarts_of_the_agent() -> None:
    world = soaking()
    world.run(timers=True)
    for _ in range(5):
        world.exit(world.slot("b"))
        world.boot()
        world.run()

    assert world.answering() == {"a"}
    assert world.report().phase is Phase.FAILED
    assert "crash loop" in world.report().reason


def test_a_crash_loop_with_nothing_to_go_back_to_keeps_trying_and_says_so() -> None:
    world = running("a")
    for _ in range(8):
        world.exit(world.slot("a"))
        if any(key.kind == "restart" for key in world.timers):
            world.fire("restart")
        world.run()

    assert (world.report().phase, world.report().retrying) == (Phase.FAILED, True)
    assert "crash loop" in world.report().reason
    assert world.answering() == {"a"}
    world.fire("stable")
    assert world.report().phase is Phase.RUNNING


def test_a_candidate_that_takes_the_whole_device_down_is_refused_in_the_end() -> None:
    world = running("a")
    world.want(spec("b"))
    for boot in range(5):
        world.finish_job(min(world.jobs))
        world.finish_job(min(world.jobs))
        assert world.module().candidate is not None
        world.boot(device=f"boot-{boot + 2}")

    assert world.report().phase is Phase.FAILED
    assert "the device restarted" in world.report().reason


def test_files_of_the_running_bundle_that_went_bad_are_mended() -> None:
    world = running("a")
    world.boot()
    world.answer(world.slot("a"), failure="model.onnx: protobuf parsing failed")
    assert "Fetch" in kinds(world)

    world.run()

    assert world.answering() == {"a"}
    assert world.report().phase is Phase.RUNNING


def test_a_boot_starts_what_ran_before_anything_is_fetched() -> None:
    world = running("a")
    world.want(spec("b"))
    world.boot()

    names = kinds(world)
    assert names.index("StartWorker") < names.index("Fetch")
    assert world.processes[world.slot("a")].spec == spec("a")


def test_a_module_nobody_wants_is_stopped_and_forgotten() -> None:
    world = running("a")

    world.want()
    assert world.state.modules != ()
    world.run()

    assert world.state.modules == ()
    assert world.forgotten == ["m"]
    assert world.processes == {}


def test_a_module_wanted_again_while_it_stops_reads_no_source_twice() -> None:
    world = running("a")
    old = world.slot("a")
    world.want()
    world.want(spec("a"))
    while len(world.processes) == 1 or world.processes[world.slot("a")].owes:
        if world.jobs:
            world.finish_job(min(world.jobs))
        else:
            world.answer(world.slot("a"))
    assert not world.processes[world.slot("a")].reading

    world.exit(old)

    assert world.processes[world.slot("a")].reading
    assert world.forgotten == []


@pytest.mark.parametrize("generation", [0, 1])
def test_a_generation_that_is_not_newer_is_ignored_and_answered_with_a_report(
    generation: int,
) -> None:
    world = running("a")
    assert world.state.generation == 1

    world.want(spec("b"), generation=generation)

    assert kinds(world) == ["Report"]
    assert world.report().bundle == digest("a")


def test_going_back_in_the_soak_time_needs_neither_fetch_nor_start() -> None:
    world = soaking()
    world.run()

    world.want(spec("a"))

    assert [name for name in kinds(world) if name in {"Fetch", "StartWorker"}] == []
    world.run()
    assert world.answering() == {"a"}
    assert world.report().phase is Phase.RUNNING


def test_a_new_wish_ends_what_was_being_prepared() -> None:
    world = running("a")
    world.want(spec("b"))
    world.finish_job(min(world.jobs))
    world.finish_job(min(world.jobs))
    candidate = world.slot("b")

    world.want(spec("c"))

    assert effects.StopWorker("m", candidate, kill=True) in world.done
    assert [job.bundle for job in world.jobs.values()] == [digest("c")]
    world.run()
    assert world.answering() == {"c"}


def test_late_words_of_a_dead_worker_or_job_change_nothing() -> None:
    world = running("a")
    before = world.state
    for event in (
        events.WorkerFailed("m", 999, "too late"),
        events.WorkerExited("m", 999, "too late"),
        events.Fetched("m", 999),
        events.JobFailed("m", 999, "too late", retryable=False),
        events.WorkerAccepting("nobody", 1),
        events.TimerFired(events.TimerKey("m", "soak", 999)),
    ):
        world.tell(event)
        assert states.to_save(world.state) == states.to_save(before)


def test_other_sources_for_the_same_bundle_get_a_worker_of_their_own() -> None:
    world = running("a")

    world.want(spec("a", sources=("directory:/data",)))
    world.run(timers=True)

    assert world.module().running == spec("a", sources=("directory:/data",))
    assert len(world.processes) == 1


def test_another_deployment_of_what_runs_restarts_nothing() -> None:
    world = running("a")

    world.want(spec("a", attempt=3))

    assert world.jobs == {}
    assert "StartWorker" not in kinds(world)
    assert world.report().attempt == 3
    assert world.module().running == spec("a", attempt=3)


def test_candidates_are_tried_one_at_a_time() -> None:
    world = World()
    world.want(spec("a", module="m"), spec("b", module="n"))
    while world.jobs:
        world.finish_job(min(world.jobs))
    assert len(world.processes) == 1

    world.run()

    assert world.answering("m") == {"a"}
    assert world.answering("n") == {"b"}


def test_progress_and_waiting_are_not_written_down() -> None:
    world = World()
    world.want(spec("a"))
    before = world.journal
    (job,) = world.jobs

    world.tell(events.FetchProgress("m", job, 10, 100))
    world.finish_job(job, failure="no network")

    assert world.journal == before
    assert world.report().reason == "no network"


def test_what_was_applied_by_hand_holds_against_the_same_word_and_yields_to_a_newer_one() -> None:
    world = running("a")
    known = world.state.desired
    assert known is not None
    world.tell(events.HandApplied("m", digest("b"), "digits", 2))
    world.run(timers=True)
    world.tell(events.DesiredReceived(known))
    world.boot(device="boot-2")
    world.run(timers=True)
    assert world.answering() == {"b"}
    assert (world.report().deployment, world.state.generation) == ("by-hand", known.generation)

    world.want(spec("a"))
    world.run(timers=True)

    assert world.answering() == {"a"}


def test_what_is_applied_by_hand_keeps_the_module_as_it_was_wanted() -> None:
    world = World()
    world.want(spec("a", sources=("directory:in",)), spec("c", module="n"))
    world.run(timers=True)

    world.tell(events.HandApplied("m", digest("b"), "digits", 2))
    world.run(timers=True)

    wanted = world.module().wanted
    assert wanted is not None
    assert wanted.sources == ("directory:in",)
    assert world.answering("n") == {"c"}


def test_a_refused_bundle_that_is_applied_by_hand_is_tried_again() -> None:
    world = running("a")
    world.want(spec("b", attempt=3))
    world.finish_job(min(world.jobs))
    world.finish_job(min(world.jobs))
    world.answer(world.slot("b"), failure="bad model")
    world.run()
    assert world.report().phase is Phase.FAILED

    world.tell(events.HandApplied("m", digest("b"), "digits", 2))
    world.run(timers=True)

    assert world.report().phase is Phase.RUNNING
    assert world.report().attempt == 4


def test_a_large_fleet_begins_its_downloads_spread_over_time_and_says_that_it_waits() -> None:
    """hawkBit, rauc-hawkbit-updater: a fleet that is told in one moment must not come in one."""
    world = World()
    world.tell(events.DesiredReceived(Desired("dev-a", 1, 0.0, (spec("a"),), fleet=1000)))
    (timer,) = [effect for effect in world.done if isinstance(effect, effects.SetTimer)]

    assert (timer.key.kind, timer.delay_s, timer.jitter) == ("retry", 10.0, True)
    assert timer.least_s == 1.0  # all are told, and answer, before the first asks
    assert "waits up to 10 s for its turn" in world.report().reason
    assert world.report().retrying
    assert world.jobs == {}

    world.tell(events.TimerFired(timer.key))
    assert len(world.jobs) == 1
    assert world.report().reason == ""


def test_a_fleet_that_fits_in_a_second_does_not_wait() -> None:
    world = World()
    world.tell(events.DesiredReceived(Desired("dev-a", 1, 0.0, (spec("a"),), fleet=100)))

    assert len(world.jobs) == 1
