"""Take-overs, by tables and by their turns: cloud.hosting.{rollout,canary,moves,commands,gates}."""

from typing import Any

import pytest

from cloud.errors import ConflictError
from cloud.hosting import commands, gates, state, strategies
from cloud.hosting.gates import Counts, Verdict
from cloud.hosting.state import Phase, State
from cloud.hosting.strategies import Gates, Kind, OnSilence, Strategy
from runtime.errors import InvalidError
from runtime.gateway.config import RevisionStats, Status
from tests.support.rollouts import BUCKETS, World

FAST = Strategy(soak_s=30.0, step_s=20.0, progress_s=100.0)
CANARY = Strategy(
    kind=Kind.CANARY, steps=(10, 50, 100), soak_s=30.0, step_s=20.0, progress_s=100.0,
    gates=Gates(min_requests=50), silence_s=60.0,
)  # fmt: skip


def up() -> World:
    """A service whose first revision has all the traffic."""
    world = World(state.first(1, FAST, 1000.0), images={1}, ready={1})
    world.settle()
    assert world.state == State(traffic={1: 100}, stables=(1,))
    return world


def updating(kind: Kind | Strategy, number: int = 2, world: World | None = None) -> World:
    """The same, with a second revision on its way by this strategy; its image is there."""
    world = world or up()
    strategy = kind if isinstance(kind, Strategy) else strategies.Strategy(
        kind=kind, soak_s=30.0, progress_s=100.0, step_s=20.0
    )  # fmt: skip
    world.state = commands.begin(world.state, number, strategy, world.now)
    world.images.add(number)
    world.settle()
    return world


def phase(world: World) -> Phase | None:
    return None if world.state.rollout is None else world.state.rollout.phase


def test_the_first_revision_has_all_the_traffic_from_the_start() -> None:
    world = World(state.first(1, FAST, 1000.0))
    world.settle()

    assert world.traffic == {1: 100}
    assert phase(world) is Phase.BUILDING
    assert world.waiting == "the image is being built"


def test_a_first_revision_that_is_not_ready_in_time_has_failed_until_it_is() -> None:
    world = World(state.first(1, FAST, 1000.0), images={1})
    world.settle()
    world.go_on(101.0)

    assert phase(world) is Phase.FAILED
    assert world.failed == {1: "not ready within 100 s: r1: it is starting"}
    world.ready = {1}
    world.settle()
    assert world.state.stable == 1
    assert world.events == ["failed", "promoted"]


def test_rolling_gives_all_once_ready_and_keeps_the_old_one_warm() -> None:
    world = updating(Kind.ROLLING)
    assert world.traffic == {1: 100}

    world.ready = {1, 2}
    world.settle()
    assert world.traffic == {2: 100}
    assert world.state.wanted == {1, 2}
    assert world.state.previous == 1
    world.go_on(29.0)
    assert world.state.wanted == {1, 2}
    world.go_on(2.0)
    assert world.state == State(traffic={2: 100}, stables=(1, 2))
    assert world.events[1:] == ["traffic", "promoted"]


def test_the_soak_begins_when_all_gateways_follow() -> None:
    world = updating(Kind.ROLLING)
    world.in_force, world.ready = False, {1, 2}
    world.settle()
    world.go_on(1000.0)

    assert phase(world) is Phase.SOAKING
    world.in_force = True
    world.settle()
    world.go_on(29.0)
    assert phase(world) is Phase.SOAKING


def test_one_that_stops_answering_while_the_old_one_is_warm_is_rolled_back() -> None:
    world = updating(Kind.ROLLING)
    world.ready = {1, 2}
    world.settle()
    world.ready = {1}
    world.settle()

    assert world.state == State(traffic={1: 100}, stables=(1,))
    assert "it stopped answering" in world.failed[2]


@pytest.mark.parametrize("kind", [Kind.ROLLING, Kind.BLUE_GREEN, Kind.CANARY, Kind.SHADOW])
def test_what_is_not_ready_in_time_is_rolled_back_with_the_reason(kind: Kind) -> None:
    world = updating(kind)
    world.go_on(99.0)
    assert phase(world) is Phase.STARTING
    world.go_on(2.0)

    assert world.state == State(traffic={1: 100}, stables=(1,))
    assert world.failed == {2: "not ready within 100 s: r2: it is starting"}
    assert world.events[-1] == "rolled_back"


def test_an_image_that_cannot_be_made_is_rolled_back_at_once() -> None:
    world = up()
    world.state = commands.begin(world.state, 2, FAST, world.now)
    world.broken = {2: "no wheel of numpy fits"}
    world.settle()

    assert world.state == State(traffic={1: 100}, stables=(1,))
    assert world.failed == {2: "no wheel of numpy fits"}


def test_what_is_not_seen_decides_nothing() -> None:
    world = updating(Kind.ROLLING)
    world.known = False
    world.go_on(10_000.0)

    assert phase(world) is Phase.STARTING
    assert world.waiting == "the target does not answer"


def test_blue_green_waits_for_promote() -> None:
    world = updating(Kind.BLUE_GREEN)
    world.ready = {1, 2}
    world.go_on(10_000.0)
    assert world.traffic == {1: 100}
    assert phase(world) is Phase.HOLDING

    world.state = commands.promote(world.state, world.now)
    world.settle()
    assert world.traffic == {2: 100}
    world.go_on(31.0)
    assert world.state == State(traffic={2: 100}, stables=(1, 2))


def test_a_shadow_is_mirrored_and_never_answers() -> None:
    world = updating(Kind.SHADOW)
    world.ready = {1, 2}
    world.go_on(10_000.0)
    assert (world.traffic, world.state.mirror) == ({1: 100}, 2)

    world.state = commands.promote(world.state, world.now)
    world.settle()
    assert (world.traffic, world.state.mirror) == ({2: 100}, None)


def test_a_shadow_that_is_taken_back_leaves_nothing() -> None:
    world = updating(Kind.SHADOW)
    world.ready = {1, 2}
    world.settle()
    world.state = commands.rollback(world.state, None, world.now, reason="by key:admin")
    world.settle()

    assert world.state == State(traffic={1: 100}, stables=(1,))


def at_first_step() -> World:
    world = updating(CANARY)
    world.ready = {1, 2}
    world.settle()
    assert world.traffic == {1: 90, 2: 10}
    return world


def test_a_canary_that_does_well_goes_all_the_way() -> None:
    world = at_first_step()
    for share in (50, 100):
        world.serve(1000)
        world.go_on(19.0)
        assert world.traffic[2] < share
        world.go_on(2.0)
        assert world.traffic[2] == share
    world.go_on(31.0)

    assert world.state == State(traffic={2: 100}, stables=(1, 2))


def test_a_step_begins_when_all_gateways_follow() -> None:
    world = updating(CANARY)
    world.ready, world.in_force = {1, 2}, False
    world.settle()
    world.serve(100_000, failing={2: 100})
    world.go_on(50.0)
    assert world.waiting == "the gateways are being told"

    world.in_force = True
    world.settle()
    world.go_on(5.0)
    assert world.traffic == {1: 90, 2: 10}  # what failed before is not of this step


@pytest.mark.parametrize(
    ("failing", "why"),
    [
        ({2: 50}, "100 of 200 requests failed: above 5.00% (max_error_rate)"),
        ({2: 4}, ("8 of 200 requests failed, 0.00% of those to the revisions before: more than "
                 "2.00% above (max_error_excess)")),
    ],
)  # fmt: skip
def test_a_canary_that_fails_too_often_is_rolled_back(failing: dict[int, int], why: str) -> None:
    world = at_first_step()
    world.serve(2000, failing=failing)
    world.go_on(1.0)

    assert world.state == State(traffic={1: 100}, stables=(1,))
    assert world.failed == {2: why}


def test_a_canary_that_fails_no_more_than_the_old_one_goes_on() -> None:
    world = at_first_step()
    world.serve(2000, failing={1: 4, 2: 4})
    world.go_on(21.0)

    assert world.traffic == {1: 50, 2: 50}


def test_errors_alone_are_enough_before_there_are_enough_requests() -> None:
    world = at_first_step()
    world.serve(100, failing={2: 100})  # ten of fifty
    world.go_on(1.0)

    assert world.traffic == {1: 100}


def test_a_slow_canary_is_rolled_back() -> None:
    world = at_first_step()
    world.serve(10_000, bucket=3)
    for number, bucket in ((1, -1000), (2, 1000)):  # the canary's are in another bucket
        counts = world.counts[number]
        counts[2 + 3] -= 1000 if number == 2 else 0
        counts[2 + 6] += 1000 if number == 2 else 0
        assert bucket
    world.go_on(1.0)

    assert world.traffic == {1: 100}
    assert "max_p95_ratio" in world.failed[2]


def test_a_gateway_that_begins_to_count_anew_hides_nothing_and_invents_nothing() -> None:
    world = at_first_step()
    world.serve(300)
    world.started_at, world.counts = world.now + 5, {}
    world.serve(400)
    world.go_on(21.0)
    assert world.waiting.endswith("40 of 50 requests so far")

    world.serve(200)
    world.settle()
    assert world.traffic == {1: 50, 2: 50}


@pytest.mark.parametrize(
    ("chosen", "traffic"),
    [
        (OnSilence.WAIT, {1: 90, 2: 10}),
        (OnSilence.PROMOTE, {1: 50, 2: 50}),
        (OnSilence.ROLLBACK, {1: 100}),
    ],
)
def test_silence_is_handled_as_was_asked(chosen: OnSilence, traffic: dict[int, int]) -> None:
    world = updating(
        Strategy(kind=Kind.CANARY, steps=(10, 50, 100), step_s=20.0, silence_s=60.0,
                 on_silence=chosen)
    )  # fmt: skip
    world.ready = {1, 2}
    world.settle()
    world.go_on(59.0)
    assert world.traffic == {1: 90, 2: 10}
    world.go_on(2.0)

    assert world.traffic == traffic


def test_steps_that_end_below_the_whole_wait_for_promote() -> None:
    world = updating(Strategy(kind=Kind.CANARY, steps=(20,), step_s=5.0, soak_s=1.0))
    world.ready = {1, 2}
    world.settle()
    world.serve(1000)
    world.go_on(6.0)
    assert (phase(world), world.traffic) == (Phase.HOLDING, {1: 80, 2: 20})
    world.serve(1000, failing={2: 100})
    world.settle()

    assert world.traffic == {1: 100}  # its gates hold as long as it has traffic


def test_a_canary_that_stops_answering_is_rolled_back_at_once() -> None:
    world = at_first_step()
    world.ready = {1}
    world.settle()

    assert world.traffic == {1: 100}
    assert world.failed[2].startswith("it stopped answering")


def test_the_way_back_waits_for_a_replica_that_answers() -> None:
    world = at_first_step()
    world.ready = {2}
    world.serve(2000, failing={2: 100})
    world.settle()
    assert world.traffic == {1: 90, 2: 10}
    assert world.state.wanted == {1, 2}

    world.half = {1}
    world.settle()
    assert world.traffic == {1: 100}


def test_an_update_during_a_canary_takes_its_share_away() -> None:
    world = updating(CANARY, 3, at_first_step())

    assert world.traffic == {1: 100}
    world.ready = {1, 3}
    world.settle()
    assert world.traffic == {1: 90, 3: 10}
    assert world.state.wanted == {1, 3}


def test_an_update_during_the_soak_goes_back_to_what_has_the_traffic() -> None:
    world = updating(Kind.ROLLING)
    world.ready = {1, 2}
    world.settle()
    updating(Kind.ROLLING, 3, world)
    world.go_on(101.0)

    assert world.state == State(traffic={2: 100}, stables=(1, 2))


def test_traffic_by_hand_waits_until_all_are_ready() -> None:
    world = updating(Kind.BLUE_GREEN)
    world.state = commands.set_traffic(world.state, {1: 90, 2: 10}, world.now)
    world.settle()
    assert world.traffic == {1: 100}

    world.ready = {1, 2}
    world.settle()
    assert world.state == State(traffic={1: 90, 2: 10}, stables=(1,))


def test_traffic_by_hand_that_cannot_be_leaves_all_as_it_was() -> None:
    world = up()
    world.images.add(2)
    world.state = commands.set_traffic(world.state, {1: 50, 2: 50}, world.now, strategy=FAST)
    world.settle()
    world.go_on(101.0)

    assert world.state == State(traffic={1: 100}, stables=(1,))
    assert world.events[-1] == "rolled_back"


def test_rollback_goes_to_the_revision_before_and_not_back_again() -> None:
    world = updating(Kind.ROLLING)
    world.ready = {1, 2}
    world.settle()
    world.go_on(31.0)
    world.ready = {2}
    world.state = commands.rollback(world.state, None, world.now, reason="by key:admin")
    world.settle()
    assert world.traffic == {2: 100}  # r1 has to start again first

    world.ready = {1, 2}
    world.settle()
    assert world.state == State(traffic={1: 100}, stables=(1,))
    with pytest.raises(ConflictError, match="no revision before"):
        commands.rollback(world.state, None, world.now, reason="")


def test_promote_ends_a_soak() -> None:
    world = updating(Kind.ROLLING)
    world.ready = {1, 2}
    world.settle()
    world.state = commands.promote(world.state, world.now)
    world.settle()

    assert world.state == State(traffic={2: 100}, stables=(1, 2))
    with pytest.raises(ConflictError, match="r2 has all the traffic already"):
        commands.promote(world.state, world.now)


def test_replicas_that_stay_away_roll_a_canary_back() -> None:
    world = at_first_step()
    world.half = {2}
    world.serve(2000)
    world.go_on(21.0)
    assert world.traffic == {1: 90, 2: 10}
    world.go_on(100.0)

    assert world.traffic == {1: 100}


@pytest.mark.parametrize(
    ("origin", "weight", "wanted"),
    [
        ({1: 100}, 10, {1: 90, 2: 10}),
        ({1: 100}, 100, {2: 100}),
        ({1: 50, 3: 50}, 33, {1: 34, 3: 33, 2: 33}),
        ({1: 1, 3: 99}, 99, {3: 1, 2: 99}),
        ({}, 10, {2: 100}),
        ({2: 100}, 10, {2: 100}),
    ],
)
def test_shares_are_blended_so_that_they_add_up(
    origin: dict[int, int], weight: int, wanted: dict[int, int]
) -> None:
    assert state.blend(origin, 2, weight) == wanted


@pytest.mark.parametrize(
    ("canary", "stable", "verdict"),
    [
        (Counts(49, 0), Counts(1000, 0), Verdict.TOO_FEW),
        (Counts(50, 2), Counts(1000, 30), Verdict.HOLDS),
        (Counts(50, 3), Counts(1000, 50), Verdict.FAILS),
        (Counts(50, 2), Counts(1000, 0), Verdict.FAILS),
        (Counts(50, 2), None, Verdict.HOLDS),
        (Counts(3, 3), None, Verdict.FAILS),
        (Counts(2, 2), None, Verdict.TOO_FEW),
        (Counts(0, 0), Counts(0, 0), Verdict.TOO_FEW),
    ],
)
def test_gates_judge_what_was_counted(
    canary: Counts, stable: Counts | None, verdict: Verdict
) -> None:
    assert gates.judge(Gates(min_requests=50), canary, stable).verdict is verdict


def histogram(**buckets: int) -> tuple[int, ...]:
    return tuple(buckets.get(f"b{number}", 0) for number in range(BUCKETS))


@pytest.mark.parametrize(
    ("counts", "wanted"),
    [
        ((), None),
        (histogram(b0=100), 0.95),
        (histogram(b3=100), 9.75),
        (histogram(b0=95, b11=5), 1.0),
        (histogram(b12=7), 10_000.0),
    ],
)
def test_percentiles_come_from_histograms(counts: tuple[int, ...], wanted: float | None) -> None:
    assert gates.p95(counts) == (None if wanted is None else pytest.approx(wanted))


def test_what_an_older_gateway_counted_before_it_was_seen_does_not_count() -> None:
    older = Status("s", 1, 5.0, revisions=(RevisionStats("r2", 100, 100),))
    newer = Status("s", 1, 50.0, revisions=(RevisionStats("r2", 7, 0),))
    baseline = gates.completed({}, [older, newer], since=10.0)

    assert gates.since_then(baseline, [older, newer], ["r2"]).requests == 7


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"steps": ()}, "strategy.steps"),
        ({"steps": (50, 10)}, "strategy.steps"),
        ({"steps": (0, 10)}, "strategy.steps"),
        ({"steps": (10, 101)}, "strategy.steps"),
        ({"progress_s": 0.0}, "strategy.progress_s"),
        ({"soak_s": -1.0}, "strategy.soak_s"),
        ({"mirror_fraction": 1.5}, "strategy.mirror_fraction"),
        ({"gates": Gates(min_requests=0)}, "strategy.gates.min_requests"),
        ({"gates": Gates(max_error_rate=2.0)}, "strategy.gates.max_error_rate"),
        ({"gates": Gates(max_p95_ratio=0.5)}, "strategy.gates.max_p95_ratio"),
        ({"kind": Kind.BY_HAND}, "strategy"),
    ],
)
def test_a_strategy_that_cannot_be_followed_is_refused(changed: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidError) as refused:
        strategies.check(Strategy(**changed))

    assert refused.value.field == field


@pytest.mark.parametrize("weights", [{1: 50}, {1: 101, 2: -1}, {}])
def test_weights_that_do_not_add_up_are_refused(weights: dict[int, int]) -> None:
    with pytest.raises(InvalidError, match="traffic"):
        commands.set_traffic(up().state, weights, 0.0)
