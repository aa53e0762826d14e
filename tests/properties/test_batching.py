"""Batching decisions, over all queues."""

import math

from hypothesis import given
from hypothesis import strategies as st

from runtime.serving.batching import Rules, Run, Wait, Waiting, decide

NOW = 100.0
MOMENTS = st.floats(90.0, NOW, allow_nan=False)
REQUESTS = st.builds(
    Waiting,
    arrived=MOMENTS,
    rows=st.integers(1, 12),
    key=st.sampled_from(["a", "b", "c"]),
    latest=st.one_of(st.just(math.inf), st.floats(95.0, 105.0)),
)
QUEUES = st.lists(REQUESTS, max_size=20).map(lambda queue: sorted(queue, key=lambda w: w.arrived))
RULES = st.builds(Rules, max_rows=st.integers(2, 16), max_delay_s=st.floats(0, 20))


@given(QUEUES, RULES)
def test_a_batch_is_of_one_key_in_order_and_no_larger_than_allowed(
    queue: list[Waiting], rules: Rules
) -> None:
    places = ran(decide(NOW, queue, rules))
    batch = [queue[place] for place in places]

    assert list(places) == sorted(set(places))
    assert len({waiting.key for waiting in batch}) <= 1
    assert len(batch) <= 1 or sum(waiting.rows for waiting in batch) <= rules.max_rows


@given(QUEUES, RULES)
def test_nobody_is_overtaken_by_the_same_key(queue: list[Waiting], rules: Rules) -> None:
    places = ran(decide(NOW, queue, rules))
    same = [p for p, w in enumerate(queue) if places and w.key == queue[places[0]].key]

    assert list(places) == same[: len(places)]


@given(QUEUES.filter(bool), st.integers(2, 16))
def test_without_a_delay_the_first_runs_at_once(queue: list[Waiting], max_rows: int) -> None:
    assert 0 in ran(decide(NOW, queue, Rules(max_rows, 0.0)))


@given(QUEUES, RULES)
def test_nobody_is_held_back_longer_than_the_rules_or_his_deadline_say(
    queue: list[Waiting], rules: Rules
) -> None:
    until = waits(decide(NOW, queue, rules))

    for waiting in queue:
        first = min(w.arrived for w in queue if w.key == waiting.key)
        assert until <= first + rules.max_delay_s or until == -math.inf
        assert until <= waiting.latest or not together(queue, waiting, rules)


@given(QUEUES, RULES)
def test_a_wait_ends_in_a_run(queue: list[Waiting], rules: Rules) -> None:
    until = waits(decide(NOW, queue, rules))

    assert until == -math.inf or not queue or ran(decide(max(until, NOW), queue, rules))


@given(QUEUES, RULES)
def test_all_that_waits_runs_once(queue: list[Waiting], rules: Rules) -> None:
    left, runs = list(queue), 0
    while left:
        places = ran(decide(1e9, left, rules))
        assert places
        left = [waiting for place, waiting in enumerate(left) if place not in places]
        runs += 1
    assert runs <= len(queue)


def test_a_full_batch_of_a_later_key_does_not_wait_for_the_first() -> None:
    queue = [Waiting(NOW, 1, "a"), Waiting(NOW, 4, "b"), Waiting(NOW, 4, "b")]

    assert decide(NOW, queue, Rules(8, 1.0)) == Run((1, 2))


def test_one_request_may_be_larger_than_a_batch() -> None:
    assert decide(NOW, [Waiting(NOW, 50, "a")], Rules(8, 1.0)) == Run((0,))


def ran(choice: Run | Wait) -> tuple[int, ...]:
    """Return what runs now."""
    return choice.places if isinstance(choice, Run) else ()


def waits(choice: Run | Wait) -> float:
    """Return until when is waited; -inf: not at all."""
    return choice.until if isinstance(choice, Wait) else -math.inf


def together(queue: list[Waiting], waiting: Waiting, rules: Rules) -> bool:
    """Say whether a request would be in the next batch of its key: all of the key fit in one."""
    return sum(w.rows for w in queue if w.key == waiting.key) < rules.max_rows
