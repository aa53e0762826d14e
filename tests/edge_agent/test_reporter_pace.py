import random

import pytest

from edge_agent import uplink
from edge_agent.reporter import AGAIN_S, GENTLE_S, JITTER, Pace
from runtime.retry import Backoff

BEAT_S = 60.0


@pytest.fixture
def pace() -> Pace:
    return Pace(BEAT_S, random.Random(0))


def test_nothing_is_due_before_the_link_stands(pace: Pace) -> None:
    pace.changed(10.0, urgent=True)

    assert pace.wait_s(10.0) is None


def test_the_first_report_of_a_connection_says_presence(pace: Pace) -> None:
    pace.connected()

    assert pace.wait_s(10.0) == 0.0
    assert pace.take(10.0) is True


def test_a_change_is_reported_without_presence_and_a_heartbeat_with_it(pace: Pace) -> None:
    """A broker may lose the first presence of a device that enrolled a moment ago."""
    pace.connected()
    pace.take(10.0)
    assert pace.changed(11.0, urgent=True)
    assert pace.take(11.0) is False

    waits = pace.wait_s(11.0)
    assert waits is not None
    assert BEAT_S * (1 - JITTER) <= waits <= BEAT_S * (1 + JITTER)
    assert pace.take(11.0 + waits) is True


def test_progress_waits_a_little_and_never_delays_what_is_due(pace: Pace) -> None:
    pace.connected()
    pace.take(10.0)

    assert pace.changed(10.0, urgent=False)
    assert pace.wait_s(10.0) == GENTLE_S
    assert not pace.changed(10.1, urgent=False)


def test_what_could_not_be_sent_is_tried_again_with_its_presence(pace: Pace) -> None:
    pace.connected()
    presence = pace.take(10.0)
    pace.failed(10.0, presence=presence)

    assert pace.wait_s(10.0) == AGAIN_S
    assert pace.take(15.0) is True


@pytest.mark.parametrize(("fleet", "seconds"), [(0, 1.0), (10, 1.0), (1000, 20.0), (10_000, 200.0)])
def test_the_larger_the_fleet_the_longer_the_time_over_which_it_comes_back(
    fleet: int, seconds: float
) -> None:
    assert uplink.return_s(fleet) == seconds


@pytest.mark.parametrize(("fleet", "seconds"), [(0, 0.0), (50, 0.0), (1000, 20.0), (10_000, 60.0)])
def test_a_fleet_whose_power_was_away_connects_over_some_time_and_a_small_one_at_once(
    fleet: int, seconds: float
) -> None:
    assert uplink.queue_s(fleet) == seconds


def test_a_fleet_comes_back_evenly_over_its_time_and_not_in_one_moment() -> None:
    """elastic-agent, mosquitto: all agents return in one minute after a broker restart."""
    waits = []
    for number in range(1000):
        backoff = Backoff(first_s=1.0, most_s=300.0, rng=random.Random(number))
        backoff.spread(uplink.return_s(1000))
        waits.append(backoff.next())

    histogram = [sum(int(wait) == second for wait in waits) for second in range(20)]
    assert sum(histogram) == 1000
    assert max(histogram) < 90, "a herd of a thousand would be a thousand in one second"
    assert min(histogram) > 20


def test_the_spread_never_exceeds_the_longest_wait() -> None:
    backoff = Backoff(first_s=1.0, most_s=5.0, rng=random.Random(0))
    backoff.spread(200.0)

    assert max(backoff.next() for _ in range(50)) <= 5.0
