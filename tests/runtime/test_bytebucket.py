from hypothesis import given
from hypothesis import strategies as st

from runtime import bytebucket

RATES = st.floats(1, 1e9)
COUNTS = st.lists(st.tuples(st.integers(0, 10_000_000), st.floats(0, 100)), max_size=30)


@given(RATES, st.floats(0, 1e9), COUNTS)
def test_bytes_never_move_faster_than_rate_and_burst_allow(
    rate: float, burst: float, takes: list[tuple[int, float]]
) -> None:
    """For a device that moves each piece when its wait is over, whatever the pieces are."""
    bucket, now, moved = bytebucket.full(rate, burst, 0.0), 0.0, 0
    for count, pause in takes:
        bucket, wait_s = bytebucket.take(bucket, count, now)
        now += wait_s
        moved += count
        assert moved <= (burst + rate * now) * (1 + 1e-9) + 1e-3
        now += pause


def test_those_who_take_wait_in_their_order() -> None:
    bucket = bytebucket.full(rate=100, burst=50, now=10)

    bucket, first = bytebucket.take(bucket, 150, 10)
    bucket, second = bytebucket.take(bucket, 100, 10)

    assert (first, second) == (1.0, 2.0)


def test_what_did_not_move_is_there_for_the_next() -> None:
    bucket, _ = bytebucket.take(bytebucket.full(100, 50, 0), 150, 0)

    _, wait_s = bytebucket.take(bytebucket.give_back(bucket, 150), 50, 0)

    assert wait_s == 0


def test_a_clock_that_goes_back_fills_nothing() -> None:
    bucket, _ = bytebucket.take(bytebucket.full(100, 50, 1000), 50, 1000)

    assert bytebucket.take(bucket, 100, 0)[1] == 1.0
