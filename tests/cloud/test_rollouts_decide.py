"""One decision after the other, by example. What holds always: tests/properties."""

import dataclasses
import datetime as dt

import pytest

from cloud.errors import ConflictError
from cloud.rollouts import decide, orders, reasons, windows
from cloud.rollouts.forecast import Need, forecast
from cloud.rollouts.state import Progress, Sight, Standing, State, Step, apply
from cloud.rollouts.strategy import Budget, Window
from tests.support.fleetrollouts import DAY_S, Device, strategy, wave, world

TEN = tuple(f"dev-{number}" for number in range(10))


def fleet(**fates: str) -> dict[str, Device]:
    """Return ten devices, some with another fate than good: dev_3="refuse"."""
    named = {name.replace("_", "-"): fate for name, fate in fates.items()}
    return {name: Device(fate=named.get(name, "good")) for name in TEN}


def test_a_rollout_without_waves_is_one_wave() -> None:
    here = world(strategy(), TEN).turns()

    assert here.rollout.state is State.COMPLETE
    assert here.where(Standing.UPDATED) == set(TEN)


def test_a_wave_waits_for_the_one_before_to_pass_and_to_soak() -> None:
    here = world(strategy(wave(count=1, soak_s=60.0)), TEN)
    here.turns(5)
    assert len(here.where(Standing.UPDATED)) == 1
    assert here.rollout.step is Step.SOAKING
    here.turns(70)

    assert here.rollout.state is State.COMPLETE


def test_a_percentage_is_of_all_devices_and_a_selector_takes_whom_it_matches() -> None:
    devices = fleet()
    for name in ("dev-1", "dev-4"):
        devices[name].waves = frozenset({1})
    here = world(strategy(wave(percent=30.0), wave(selector="site=a")), devices).turns()

    waves = [member.wave for member in here.rollout.members.values()]
    assert waves.count(0) == 3
    assert {here.rollout.members[name].wave for name in ("dev-1", "dev-4")} <= {0, 1}
    assert here.rollout.state is State.COMPLETE


def test_a_canary_that_fails_aborts_and_the_rest_was_never_touched() -> None:
    devices = {name: Device(fate="refuse") for name in TEN}
    here = world(strategy(wave(count=2)), devices).turns()

    assert here.rollout.state is State.REVERTED
    assert len(here.where(Standing.REVERTED)) == 2
    assert len(here.where(Standing.NOT_REACHED)) == 8


def test_one_failure_of_ten_passes_a_gate_of_nine_tenths() -> None:
    here = world(strategy(), fleet(dev_3="refuse")).turns()

    assert here.rollout.state is State.COMPLETE
    assert here.where(Standing.FAILED) == {"dev-3"}


def test_three_failures_abort_before_the_wave_has_ended() -> None:
    bad = {f"dev_{number}": "refuse" for number in range(3)} | {"dev_9": "slow"}
    here = world(strategy(), fleet(**bad)).turns()

    assert here.rollout.state is State.REVERTED
    assert here.rollout.reason == "3 of 9 devices failed; 10% is the limit"
    assert here.where(Standing.REVERTED) == set(TEN)


def test_silence_counts_as_failure() -> None:
    """A device that was told and says nothing more is no reason to go on."""
    bad = {f"dev_{number}": "silent" for number in range(3)}
    here = world(strategy(silence_s=60.0), fleet(**bad)).turns(200)

    assert here.rollout.state is State.REVERTED
    assert "3 of 10 devices failed" in here.rollout.reason
    assert here.where(Standing.REVERT_UNSEEN) == {"dev-0", "dev-1", "dev-2"}


def test_a_device_that_was_away_before_is_no_failure_and_gets_it_when_it_is_back() -> None:
    devices = fleet()
    devices["dev-7"].heard = False
    here = world(strategy(), devices).turns()
    assert here.rollout.state is State.COMPLETE
    assert here.standing("dev-7") is Standing.WAITING
    here.devices["dev-7"].heard = True
    here.turns()

    assert here.where(Standing.UPDATED) == set(TEN)


def test_a_wave_that_nobody_could_reach_is_no_success() -> None:
    devices = {name: Device(heard=False) for name in TEN}
    here = world(strategy(), devices).turns(3, DAY_S)

    assert here.rollout.state is State.REVERTED
    assert "could be reached" in here.rollout.reason


def test_stop_leaves_what_was_changed() -> None:
    devices = {name: Device(fate="refuse") for name in TEN}
    here = world(strategy(wave(count=2), reverts=False), devices).turns()

    assert here.rollout.state is State.STOPPED
    assert len(here.where(Standing.FAILED)) == 2


def test_the_budget_holds_site_by_site_forth_and_back() -> None:
    devices = {name: Device(group="ab"[number % 2]) for number, name in enumerate(TEN)}
    here = world(strategy(budget=Budget(most=1, by="site")), devices)
    most = 0
    for _ in range(40):
        here.turn()
        most = max(most, len(here.where(Standing.UPDATING)))
    assert (most, here.rollout.state) == (2, State.COMPLETE)
    here.rollout = apply(here.rollout, orders.revert(here.rollout), here.now)
    most = 0
    for _ in range(40):
        here.turn()
        most = max(most, len(here.where(Standing.REVERTING)))

    assert (most, here.rollout.state) == (2, State.REVERTED)
    assert here.where(Standing.REVERTED) == set(TEN)


def test_a_budget_that_starves_a_rollout_says_who_holds_it() -> None:
    """Flightctl PR#892: a budget stricter than what is there starves it with no message."""
    first = decide.order(world(strategy(), TEN).rollout, ["dev-0", "dev-1"])[0]
    devices = {name: Device(group="a") for name in ("dev-0", "dev-1")}
    devices[first].fate = "silent"
    plan = strategy(budget=Budget(fraction=0.2, by="site"), silence_s=60.0)
    here = world(plan, devices)
    here.turns(2)

    told = reasons.why(here.rollout, here.scene(), here.now)
    assert told[-1] == f"site=a: starved by the budget of 1: {first} unavailable"


def test_more_time_only_for_who_tries_again_by_itself_and_only_so_often() -> None:
    plan = strategy(device_timeout_s=100.0, backoff_s=10.0, retries=2)
    here = world(plan, {"dev-0": Device(fate="slow")})
    here.turn()
    sight = Sight(heard=True, progress=Progress.MOVING, retrying=True, reason="disk full")
    retries = []
    for _ in range(60):
        here.now += 10.0
        scene = dataclasses.replace(here.scene(), sights={"dev-0": sight})
        here.rollout, _done = decide.settle(here.rollout, scene, here.now)
        retries.append(here.rollout.members["dev-0"].retries)

    assert max(retries) == 2
    assert here.rollout.state is State.REVERTED
    assert "the gate is" in here.rollout.reason


def test_a_window_that_ends_takes_back_who_has_not_begun_to_switch() -> None:
    here = world(strategy(), fleet(dev_3="slow"))
    here.turn()
    here.window_open = False
    here.turns(3)
    assert here.standing("dev-3") is Standing.WAITING
    here.devices["dev-3"].fate = "good"
    here.window_open = True
    here.turns(8)

    assert here.rollout.state is State.COMPLETE


def test_an_approval_is_asked_for_before_the_wave_that_wants_it() -> None:
    here = world(strategy(wave(count=1), wave(count=2, approve=True)), TEN).turns()
    assert (here.rollout.wave, here.rollout.step) == (1, Step.APPROVAL)
    assert orders.approve(here.rollout) == 1
    here.rollout = dataclasses.replace(here.rollout, approved=frozenset({1}))
    here.turns()

    assert here.rollout.state is State.COMPLETE
    with pytest.raises(ConflictError, match="is complete"):
        orders.approve(here.rollout)


def test_a_complete_rollout_in_which_too_many_joiners_fail_lets_no_more_in() -> None:
    here = world(strategy(), TEN).turns()
    for number in range(8):
        here.join(f"new-{number}", Device(fate="refuse", heard_at=here.now))
        here.turns(6)

    assert here.rollout.state is State.COMPLETE
    assert here.standing("new-7") is Standing.WAITING
    assert decide.failing(here.rollout)


def test_every_device_has_one_place_in_an_order_without_a_pattern() -> None:
    here = world(strategy(), TEN)

    assert decide.order(here.rollout, TEN) == decide.order(here.rollout, reversed(TEN))
    assert decide.order(here.rollout, TEN) != list(TEN)


def at(text: str) -> float:
    """Return a moment in UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC).timestamp()


def test_windows_follow_the_clocks_of_their_zone() -> None:
    night = (Window("0 2 * * *", "Europe/Vienna", 3600.0),)

    assert windows.is_open(night, at("2026-01-10T01:30:00"))
    assert not windows.is_open(night, at("2026-01-10T02:00:00"))
    assert windows.is_open(night, at("2026-07-10T00:30:00"))
    assert windows.next_begin(night, at("2026-01-10T02:00:00")) == at("2026-01-11T01:00:00")
    week = windows.opened_s(night, at("2026-01-10T00:00:00"), at("2026-01-17T00:00:00"))
    assert week == 7 * 3600.0


def test_a_forecast_is_made_by_the_same_decisions() -> None:
    sights = {name: Sight(group="a") for name in TEN}
    plan = strategy(wave(count=2, soak_s=600.0), budget=Budget(most=2, by="site"))

    found = forecast(plan, sights, dict.fromkeys(TEN, Need(60.0)), 0.0)

    assert found.waves == (2, 8)
    assert found.seconds == 60.0 + 600.0 + 4 * 60.0


def test_a_forecast_waits_for_download_windows_and_for_the_slowest_device() -> None:
    sights = {name: Sight() for name in TEN}
    hourly = Window("0 * * * *", "UTC", 600.0)
    needs = {name: Need(500.0, downloads=name != TEN[0]) for name in TEN}
    needs[TEN[1]] = Need(900.0)

    found = forecast(strategy(download=(hourly,)), sights, needs, 1800.0)

    # 600 s from three o'clock on, and what is left of 900 s from four o'clock on.
    assert found.seconds == 1800.0 + 3600.0 + 300.0
    assert found.waited


def test_a_superseded_rollout_admits_nobody_and_what_is_under_way_ends() -> None:
    here = world(strategy(wave(count=2)), TEN)
    here.turn()
    here.rollout = apply(here.rollout, orders.supersede(here.rollout, "rol-2"), here.now)
    here.turns()

    assert len(here.where(Standing.NOT_REACHED)) == 8
    assert len(here.where(Standing.UPDATED)) == 2
