import random

from hypothesis import given
from hypothesis import strategies as st

from runtime.retry import Backoff


@given(first_s=st.floats(0.01, 10), most_s=st.floats(0.01, 1000), seed=st.integers(0, 2**32))
def test_each_wait_lies_between_zero_and_a_ceiling_that_doubles(
    first_s: float, most_s: float, seed: int
) -> None:
    backoff = Backoff(first_s, most_s, random.Random(seed))

    waits = [backoff.next() for _ in range(40)]

    assert all(0 <= wait <= min(most_s, first_s * 2**n) * 1.000001 for n, wait in enumerate(waits))


def test_many_who_failed_together_come_back_spread_over_the_whole_window() -> None:
    waits = sorted(Backoff(10, 10, random.Random(seed)).next() for seed in range(1000))

    tenths = [sum(1 for wait in waits if n <= wait < n + 1) for n in range(10)]

    assert min(tenths) > 50


def test_after_a_reset_the_window_is_narrow_again() -> None:
    backoff = Backoff(1, 300, random.Random(1))
    for _ in range(10):
        backoff.next()

    backoff.reset()

    assert backoff.next() <= 1


def test_two_backoffs_that_nobody_seeded_differ() -> None:
    assert Backoff().next() != Backoff().next()
