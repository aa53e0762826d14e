from typing import Any

import pytest

from cloud.simulation import plan, report, weather
from cloud.simulation.report import Books, Times
from cloud.simulation.weather import Blow
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.simulated import CUT, FAILING_CHECK, LATENCY, Count, Outcome

ONE, TWO = Digest("11" * 32), Digest("22" * 32)
NAMES = plan.names(40)


def outcome(
    running: Digest | None = TWO,
    *,
    profiles: tuple[str, ...] = (),
    phase: str = "running",
    reason: str = "",
) -> Outcome:
    return Outcome(
        name="sim-00001",
        profiles=profiles,
        generation=3,
        running=running,
        wanted=TWO,
        phase=phase,
        reason=reason,
        connects=1,
        faults=dict.fromkeys(profiles, 2),
        messages=10,
        sent_bytes=100,
        received_bytes=200,
        downloaded_bytes=700,
        records=10,
        records_waiting=2,
        records_dropped=1,
    )


def test_profiles_are_given_by_name_and_fraction() -> None:
    assert plan.parse_profiles(["cut=0.25", "latency"]) == {"cut": 0.25, "latency": 1.0}


@pytest.mark.parametrize("text", ["cat=0.1", "cut=2", "cut=x", "cut=-0.1", "=1"])
def test_a_profile_that_cannot_be_is_refused_by_name(text: str) -> None:
    with pytest.raises(InvalidError, match="profile"):
        plan.parse_profiles([text])


def test_a_profile_is_given_once() -> None:
    with pytest.raises(InvalidError, match="once"):
        plan.parse_profiles(["cut=0.1", "cut=0.2"])


def test_the_same_seed_has_the_same_devices_suffer_and_another_has_others() -> None:
    fractions = {CUT: 0.25, LATENCY: 0.5}
    first, again = plan.assign(NAMES, fractions, 7), plan.assign(NAMES, fractions, 7)

    assert first == again
    assert first != plan.assign(NAMES, fractions, 8)
    assert sum(CUT in profiles for profiles in first.values()) == 10
    assert sum(LATENCY in profiles for profiles in first.values()) == 20


def test_a_small_fraction_reaches_one_device_and_none_reaches_none() -> None:
    found = plan.assign(NAMES[:3], {CUT: 0.01, LATENCY: 0.0}, 0)

    assert sorted(found.values()) == [(), (), (CUT,)]


def test_devices_are_shared_evenly_among_as_many_processes_as_can_hold_them() -> None:
    assert plan.processes(50, 8, None) == 1
    assert plan.processes(1000, 2, None) == 2
    assert plan.processes(10_000, 2, None) == 3
    assert sorted(len(part) for part in plan.share(NAMES, 3)) == [13, 13, 14]
    with pytest.raises(InvalidError, match="at least 3"):
        plan.processes(10_000, 2, 2)


def test_the_account_tells_those_that_converged_from_those_that_refused_and_those_stuck() -> None:
    outcomes = [
        outcome(),
        outcome(ONE, profiles=(FAILING_CHECK,), phase="failed", reason="check: outputs differ"),
        outcome(ONE, profiles=(CUT,), phase="fetching"),
    ]

    found = report.result(outcomes, TWO, Times(total_s=2.0), memory_bytes=3000)

    assert (found["devices"], found["converged"], found["refused"], found["stuck"]) == (3, 1, 1, 1)
    assert found["profiles"][FAILING_CHECK]["refused"] == 1
    assert found["profiles"][CUT]["stuck"] == 1
    assert found["profiles"][CUT]["faults"] == {CUT: 2}
    assert found["faults"] == {CUT: 2, FAILING_CHECK: 2}
    assert found["healthy"] == {
        "devices": 1,
        "converged": 1,
        "refused": 0,
        "stuck": 0,
        "without_version": 0,
        "final_reports": None,
        "connects": 1,
        "faults": {},
        "records": {
            "made": 10,
            "dropped": 1,
            "waiting": 2,
            "stored": None,
            "lost": None,
            "twice": None,
        },
    }
    assert (found["messages"], found["bytes_per_device"], found["seconds"]) == (30, 1000, 2.0)
    assert [one["phase"] for one in found["stuck_devices"]] == ["fetching"]


def test_a_device_that_runs_what_it_was_told_has_not_converged_on_something_else() -> None:
    assert report.has_converged(outcome(), None)
    assert not report.has_converged(outcome(), ONE)
    assert not report.has_converged(outcome(None), None)


def of_one(books: Books, device: Outcome) -> dict[str, Any]:
    return report.result([device], TWO, Times(), books, memory_bytes=0)


def test_a_device_tells_the_end_of_each_deployment_once_or_the_account_says_so() -> None:
    once = Books(["d1", "d2"], {("sim-00001", "d1"): 1, ("sim-00001", "d2"): 1}, {})
    again = Books(["d1", "d2"], {("sim-00001", "d2"): 2}, {})

    assert of_one(once, outcome())["final_reports"] == {"once": 2, "never": 0, "more": 0}
    assert of_one(again, outcome())["final_reports"] == {"once": 0, "never": 1, "more": 1}


def test_records_are_counted_from_the_device_to_the_database() -> None:
    found = of_one(Books([], {}, {"sim-00001": (7, 6)}), outcome())

    assert found["records"] == {
        "made": 10,
        "dropped": 1,
        "waiting": 2,
        "stored": 6,
        "lost": 2,
        "twice": 1,
    }


@pytest.mark.parametrize(
    "change",
    [
        {"converged": 0},
        {"final_reports": {"once": 1, "never": 1, "more": 0}},
        {"final_reports": {"once": 1, "never": 0, "more": 1}},
        {"records": {"lost": 1, "twice": 0, "waiting": 0}},
        {"records": {"lost": 0, "twice": 1, "waiting": 0}},
        {"records": {"lost": None, "twice": None, "waiting": 1}},
    ],
)
def test_a_simulation_is_good_only_if_all_arrived_and_was_told_once(
    change: dict[str, Any],
) -> None:
    found: dict[str, Any] = {
        "devices": 1,
        "converged": 1,
        "final_reports": {"once": 2, "never": 0, "more": 0},
        "records": {"lost": 0, "twice": 0, "waiting": 0},
    }

    assert report.is_good(found)
    assert not report.is_good({**found, **change})


def test_one_thing_after_the_other_befalls_a_fleet() -> None:
    planned = weather.plan(weather.parse_restarts(["registry", "broker"]), storms=True)

    assert [what for _, what in planned] == ["registry", "broker", "storm", "storm"]
    assert sorted(planned) == planned
    with pytest.raises(InvalidError, match="restart"):
        weather.parse_restarts(["cat"])


def count(*, connected: int, connects: int, tries: dict[int, int] | None = None) -> Count:
    return Count(100, connected, {}, {}, 0, {}, 0, connects, tries=tries or {})


def test_what_a_blow_did_is_how_many_it_cut_off_and_how_fast_they_came_back() -> None:
    blow = Blow("broker", at=10.0, connected=100, connects=100)
    steps = [(10.1, 100, 100), (10.5, 0, 100), (11.0, 30, 130), (11.5, 70, 170), (12.5, 99, 199)]
    tries = {39: 100, 42: 20, 43: 20, 44: 20, 45: 20, 46: 20}
    for at, connected, connects in steps:
        due = {part: number for part, number in tries.items() if part < at * 4}
        blow.look(count(connected=connected, connects=connects, tries=due), at)
    blow.look(count(connected=0, connects=900), 20.0)

    assert blow.plain(began=4.0) == {
        "what": "broker",
        "at_s": 6.0,
        "lost": 100,
        "back_s": 2.5,
        "most_connects_per_s": 70,
        "most_tries_per_s": 80,
    }
