"""What the gateway decides, for whatever it may be given."""

import itertools
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from runtime.gateway import buckets, choice, health, retries
from runtime.gateway.config import WEIGHT_TOTAL, Limit
from runtime.gateway.health import Health, State
from runtime.gateway.retries import Budget, Failure


@st.composite
def weights(draw: st.DrawFn) -> tuple[int, ...]:
    """Weights of some revisions, which sum up to WEIGHT_TOTAL."""
    count = draw(st.integers(1, 6))
    cuts = sorted(
        draw(st.lists(st.integers(0, WEIGHT_TOTAL), min_size=count - 1, max_size=count - 1))
    )
    edges = [0, *cuts, WEIGHT_TOTAL]
    return tuple(after - before for before, after in itertools.pairwise(edges))


@given(weights(), st.integers(0, WEIGHT_TOTAL))
def test_any_window_of_the_total_gives_each_revision_exactly_its_weight(
    shares: tuple[int, ...], start: int
) -> None:
    turns = choice.cycle(shares) * 2

    window = Counter(turns[start : start + WEIGHT_TOTAL])

    assert [window[index] for index in range(len(shares))] == list(shares)


@given(weights(), st.integers(0, WEIGHT_TOTAL - 1), st.integers(0, WEIGHT_TOTAL))
def test_any_shorter_window_is_less_than_two_requests_off(
    shares: tuple[int, ...], start: int, size: int
) -> None:
    window = Counter((choice.cycle(shares) * 2)[start : start + size])

    off = [abs(window[i] - size * share / WEIGHT_TOTAL) for i, share in enumerate(shares)]

    assert max(off) < 2


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 50)), min_size=1), st.integers(0, 999))
def test_the_choice_is_among_the_best_and_goes_round_among_them(
    loads: list[tuple[int, int]], turn: int
) -> None:
    best = [index for index, load in enumerate(loads) if load == min(loads)]

    chosen = {choice.least(loads, turn + step) for step in range(len(loads))}

    assert chosen == set(best)


@given(st.floats(0, 1), st.integers(1, 500))
def test_a_sample_is_as_large_as_its_fraction_says(fraction: float, count: int) -> None:
    taken = sum(choice.sampled(number, fraction) for number in range(count))

    assert taken == int(count * fraction)


@given(
    st.floats(0.1, 100),
    st.integers(1, 50),
    st.lists(st.floats(0, 10), min_size=1, max_size=100),
)
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(
    per_s: float, burst: int, pauses: list[float]
) -> None:
    limit, now, given_out = Limit(per_s, burst), 0.0, 0
    bucket = buckets.full(limit, now)
    for pause in pauses:
        now += pause
        bucket, wait_s = buckets.take(bucket, limit, now)
        given_out += wait_s == 0

    assert given_out <= burst + per_s * now + 1e-6


@given(st.floats(0.1, 100), st.integers(1, 50))
def test_whoever_waits_as_long_as_told_gets_a_token(per_s: float, burst: int) -> None:
    limit = Limit(per_s, burst)
    bucket = buckets.full(limit, 0.0)
    for _ in range(burst):
        bucket, _ = buckets.take(bucket, limit, 0.0)
    bucket, wait_s = buckets.take(bucket, limit, 0.0)

    assert wait_s > 0
    assert buckets.take(bucket, limit, wait_s + 1e-6)[1] == 0


failures = st.sampled_from(Failure)


@given(failures, st.booleans(), st.integers(0, 10), st.floats(0, 60))
def test_tries_end_before_the_request_s_time_does(
    failure: Failure,
    untried: bool,  # noqa: FBT001 - hypothesis gives it
    rounds: int,
    left_s: float,
) -> None:
    wait_s = retries.pause(
        failure, untried=untried, rounds=rounds, costly=1, budget=Budget(), left_s=left_s
    )

    assert wait_s is None or wait_s < left_s


@given(st.lists(st.tuples(failures, st.booleans()), max_size=300))
def test_further_tries_that_cost_work_stay_within_the_budget(
    events: list[tuple[Failure, bool]],
) -> None:
    budget, requests, paid = Budget(), 0, 0
    for failure, begins in events:
        requests += begins
        budget = budget.earned() if begins else budget
        wait_s = retries.pause(failure, untried=True, rounds=0, costly=1, budget=budget, left_s=1.0)
        paid += retries.costs(failure) and wait_s is not None
        budget = budget.spent(failure) if wait_s is not None else budget

    assert paid <= retries.BUDGET_START + retries.BUDGET_PER_REQUEST * requests


@given(
    st.lists(
        st.tuples(st.sampled_from(["worked", "failed", "certain", "well", "ill"]), st.floats(0, 9))
    )
)
def test_a_replica_is_probed_again_within_the_longest_back_off_whatever_happened(
    events: list[tuple[str, float]],
) -> None:
    seen, now = Health(), 0.0
    steps = {
        "worked": lambda: health.worked(seen),
        "failed": lambda: health.failed(seen, now, certain=False),
        "certain": lambda: health.failed(seen, now, certain=True),
        "well": lambda: health.probed(seen, now, well=True),
        "ill": lambda: health.probed(seen, now, well=False),
    }
    for event, pause in events:
        now += pause
        seen = steps[event]()

        assert seen.probe_at <= now + max(health.PROBE_MOST_S, health.PROBE_WELL_S)
        assert health.probed(seen, now, well=True).state is State.WELL
        assert health.failed(seen, now, certain=True).state is State.ILL
