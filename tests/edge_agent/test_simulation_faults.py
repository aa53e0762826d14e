import random

from edge_agent.simulation import faults
from edge_agent.simulation.faults import Faults
from runtime import simulated


def made(*profiles: str, seed: int = 1) -> Faults:
    return Faults(profiles, random.Random(seed))


def draws(found: Faults) -> list[float | bool | None]:
    return [found.late_s(), found.loses(), found.next_cut_s(), found.next_reboot_s()]


def test_a_healthy_device_suffers_nothing() -> None:
    healthy = made()

    assert draws(healthy) == [0.0, False, None, None]
    assert healthy.disk_s() == 0.0
    assert not healthy.fails_check(first=False)
    assert healthy.count == 0


def test_the_same_seed_brings_the_same_faults() -> None:
    assert draws(made(*simulated.PROFILES)) == draws(made(*simulated.PROFILES))
    assert draws(made(*simulated.PROFILES)) != draws(made(*simulated.PROFILES, seed=2))


def test_a_lossy_link_loses_about_a_tenth_until_all_is_calm() -> None:
    lossy = made(simulated.LOSS)
    lost = sum(lossy.loses() for _ in range(2000))
    lossy.calm()

    assert 120 < lost < 280
    assert lossy.count == lost
    assert not any(lossy.loses() for _ in range(100))


def test_a_board_that_fails_checks_takes_the_first_bundle() -> None:
    picky = made(simulated.FAILING_CHECK)

    assert not picky.fails_check(first=True)
    assert picky.fails_check(first=False)


def test_a_slow_disk_takes_its_time_for_each_write() -> None:
    slow = made(simulated.SLOW_DISK)

    assert faults.SLOW_S[0] <= slow.disk_s() <= faults.SLOW_S[1]
    assert slow.count == 1
