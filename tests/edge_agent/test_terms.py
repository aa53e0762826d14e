"""Whether a bundle may be downloaded now, and what the mind makes of it."""

import pytest
from msgspec.structs import replace

from edge_agent.mind import effects, events, terms
from edge_agent.mind.terms import NO_TERMS, Terms
from runtime.messages import METERED_ALLOW, ModuleSpec, Phase
from tests.support.worlds import World, spec

NOON = 1_800_000_000.0
WINDOW = Terms(not_before=NOON, not_after=NOON + 60)


@pytest.mark.parametrize(
    ("given", "metered", "now", "words", "wait_s"),
    [
        (Terms(metered=False), True, NOON, "not metered", terms.METERED_AGAIN_S),
        (WINDOW, False, NOON - 10, "opens at 2027-01-15 08:00:00Z", 10),
        (WINDOW, False, NOON - 1e6, "opens at", terms.LOOK_AGAIN_S),
        (WINDOW, False, NOON + 60, "ended at 2027-01-15 08:01:00Z", terms.LOOK_AGAIN_S),
        (WINDOW, False, 100.0, "the clock is not set", terms.METERED_AGAIN_S),
    ],
    ids=["metered", "early", "very-early", "late", "no-clock"],
)
def test_what_is_in_the_way_is_said_with_when_to_look_again(
    given: Terms, *, metered: bool, now: float, words: str, wait_s: float
) -> None:
    found = terms.hindrance(given, metered=metered, now=now)

    assert found is not None
    assert words in found.reason
    assert found.wait_s == wait_s


@pytest.mark.parametrize(
    ("given", "metered"),
    [(NO_TERMS, True), (Terms(metered=False), False), (WINDOW, False), (WINDOW, True)],
)
def test_nothing_is_in_the_way_of_what_is_allowed(given: Terms, *, metered: bool) -> None:
    assert terms.hindrance(given, metered=metered, now=NOON + 1) is None


def wish(**changes: object) -> ModuleSpec:
    return replace(spec("b"), **changes)


def fetches(world: World) -> list[effects.Fetch]:
    return [job for job in world.jobs.values() if isinstance(job, effects.Fetch)]


def test_a_fetch_knows_the_terms_of_its_deployment() -> None:
    world = World()

    world.want(wish(budget_bytes=1000, metered=METERED_ALLOW, not_before=NOON))

    (fetch,) = fetches(world)
    assert fetch.terms == Terms("d1/0", 1000, metered=True, not_before=NOON)


def test_a_device_waits_for_its_window_and_says_so() -> None:
    world = World()
    world.want(wish(not_before=NOON))
    (job,) = world.jobs
    world.jobs.pop(job)

    world.tell(events.JobFailed("m", job, "waits for its window", retryable=True, wait_s=7.0))

    told = world.report()
    assert (told.phase, told.reason, told.retrying) == (
        Phase.FETCHING,
        "waits for its window",
        True,
    )
    (timer,) = world.timers.values()
    assert (timer.delay_s, timer.jitter) == (7.0, False)
    world.fire("retry")
    assert len(fetches(world)) == 1


def spend(world: World, budget_bytes: int) -> None:
    (job,) = world.jobs
    world.jobs.pop(job)
    text = f"budget: {budget_bytes} of {budget_bytes} bytes are spent"
    world.tell(events.JobFailed("m", job, text, retryable=False, budget_bytes=budget_bytes))


def test_a_spent_budget_is_refused_with_counts_and_the_old_version_runs_on() -> None:
    world = World()
    world.want(spec("a"))
    world.run()
    world.want(wish(budget_bytes=1000))

    spend(world, 1000)

    told = world.report()
    assert (told.phase, told.retrying) == (Phase.FAILED, False)
    assert "1000 of 1000 bytes" in told.reason
    assert world.answering() == {"a"}
    assert world.jobs == {}


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"budget_bytes": 1001}, True),
        ({"budget_bytes": None}, True),
        ({"budget_bytes": 1000, "attempt": 1}, True),
        ({"budget_bytes": 1000, "soak_s": 5.0}, False),
        ({"budget_bytes": 999}, False),
    ],
    ids=["raised", "lifted", "retried", "other-change", "lowered"],
)
def test_raising_the_budget_or_retrying_goes_on_and_nothing_else_does(
    changes: dict[str, object], *, again: bool
) -> None:
    world = World()
    world.want(wish(budget_bytes=1000))
    spend(world, 1000)
    world.boot()

    world.want(wish(**changes))

    assert bool(fetches(world)) == again


def test_new_terms_reach_a_fetch_that_is_under_way() -> None:
    world = World()
    world.want(wish(metered=METERED_ALLOW))
    (first,) = fetches(world)

    world.want(wish())

    (second,) = fetches(world)
    assert effects.CancelJob("m", first.job) in world.done
    assert (first.terms.metered, second.terms.metered) == (True, False)


def test_a_change_of_other_things_leaves_a_fetch_alone() -> None:
    world = World()
    world.want(wish())
    before = fetches(world)

    world.want(wish(soak_s=9.0))

    assert fetches(world) == before
