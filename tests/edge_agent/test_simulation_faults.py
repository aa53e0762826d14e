import random
import time

import pytest

from edge_agent.mind.states import SavedState
from edge_agent.simulation import faults
from edge_agent.simulation.device import BoardClock
from edge_agent.simulation.drivers import Disk
from edge_agent.simulation.faults import Faults
from runtime import simulated
from runtime.clock import SystemClock


def made(*profiles: str, seed: int = 1) -> Faults:
    return Faults(profiles, random.Random(seed))


def draws(found: Faults) -> list[float | bool | None]:
    return [found.late_s(), found.loses(), found.next_cut_s(), found.next_reboot_s()]


def test_a_healthy_device_suffers_nothing() -> None:
    healthy = made()

    assert draws(healthy) == [0.0, False, None, None]
    assert healthy.disk_s() == 0.0
    assert not healthy.fails_check(first=False)
    assert not healthy.refuses_write()
    assert healthy.kbps(20_000) == 20_000
    assert not healthy.counts


def test_the_same_seed_brings_the_same_faults() -> None:
    assert draws(made(*simulated.PROFILES)) == draws(made(*simulated.PROFILES))
    assert draws(made(*simulated.PROFILES)) != draws(made(*simulated.PROFILES, seed=2))


def test_a_lossy_link_loses_about_a_tenth_until_all_is_calm() -> None:
    lossy = made(simulated.LOSS)
    lost = sum(lossy.loses() for _ in range(2000))
    lossy.calm()

    assert 120 < lost < 280
    assert lossy.counts == {simulated.LOSS: lost}
    assert not any(lossy.loses() for _ in range(100))


def test_a_board_that_fails_checks_takes_the_first_bundle() -> None:
    picky = made(simulated.FAILING_CHECK)

    assert not picky.fails_check(first=True)
    assert picky.fails_check(first=False)


def test_a_slow_disk_takes_its_time_for_each_write() -> None:
    slow = made(simulated.SLOW_DISK)

    assert faults.SLOW_S[0] <= slow.disk_s() <= faults.SLOW_S[1]
    assert slow.counts == {simulated.SLOW_DISK: 1}


def test_a_line_by_satellite_is_late_narrow_and_now_and_then_stalls() -> None:
    line = made(simulated.SATELLITE)
    late = [line.late_s() for _ in range(2000)]

    assert min(late) >= 0.27
    assert 10 < sum(each > 1.0 for each in late) < 100
    assert line.kbps(20_000) == 1_000
    assert line.counts == {simulated.SATELLITE: 2000}


def test_a_full_disk_refuses_writes_until_all_is_calm() -> None:
    full = made(simulated.DISK_FULL)
    full.full = True
    disk = Disk(full)

    with pytest.raises(OSError, match="No space left"):
        disk.write(SavedState(boot_id="life-1"))
    assert disk.saved == SavedState()
    full.calm()
    assert disk.write(SavedState(boot_id="life-1"))


def test_a_clock_that_jumps_is_wrong_by_years_and_goes_on_evenly() -> None:
    jumping = made(simulated.CLOCK_JUMP)
    clock = BoardClock(SystemClock(), jumping)
    before = clock.monotonic()
    jumping.jump()

    assert abs(clock.now() - time.time()) > 86_400.0
    assert 0 <= clock.monotonic() - before < 60.0


def test_lines_that_break_do_so_in_a_sixtieth_of_the_time_and_so_devices_wait() -> None:
    assert faults.OFF_ON_S == 5.0
    assert faults.CUT_EVERY_S == (4.0, 15.0)
    assert made(simulated.OFF_ON).hurry == made(simulated.CUT).hurry == 60.0
    assert made(simulated.REBOOT).hurry == 1.0
