"""Devices whose clock is wrong, or who boot with nobody to talk to, with real processes."""

import re
import sqlite3
import time

import pytest

from runtime.messages import Reported
from tests.support import clocks, fleets, processes
from tests.support.fleets import Fleet
from tests.support.processes import Agent, eventually

DAY_S = 86_400.0
YEAR_S = 365.25 * DAY_S


def restart(agent: Agent, **environment: str) -> None:
    agent.stop()
    agent.environment.update(environment)
    agent.start()


def report(agent: Agent) -> Reported:
    return fleets.says(agent).reported


def answers(agent: Agent, request: str) -> None:
    assert agent.infer(agent.name, fleets.ROW, request=request).version == "1"


def stored(fleet: Fleet, name: str) -> list[str]:
    """Return the requests whose records are in the registry."""
    return [one.request for one in processes.stored(fleet.client, model=name) if one.request]


def test_a_device_in_1970_works_and_says_that_its_clock_is_wrong(fleet: Fleet) -> None:
    name = "in-1970"
    agent = fleet.running(name)

    restart(agent, **clocks.wrong(10.0))
    agent.await_answer(name, 1)
    answers(agent, "made-in-1970")

    eventually(lambda: fleets.says(agent).connected, "it is connected")
    assert report(agent).at < DAY_S
    eventually(lambda: "made-in-1970" in stored(fleet, name), "the record is in the registry")
    (record,) = (
        one for one in processes.stored(fleet.client, model=name) if one.request == "made-in-1970"
    )
    assert abs(record.at - time.time()) < 60.0, "the registry has estimated it"
    with sqlite3.connect(f"file:{fleet.registry.data / 'registry.db'}?mode=ro", uri=True) as rows:
        query = "SELECT time_estimated FROM record WHERE request = 'made-in-1970'"
        assert rows.execute(query).fetchall() == [(1,)]
    eventually(
        lambda: any(
            "clock: reads 1970-01-01" in text for text in fleet.client.device(name).troubles
        ),
        "it is reported",
    )
    shown = fleets.run("packhorse-agent", "status", "--data", str(agent.data))
    assert "trouble: clock: reads 1970-01-01" in shown.out
    assert "set the time or enable NTP" in shown.out

    fleet.push(name, factor=2.0)
    deployment = fleet.deploy(name)
    agent.await_answer(name, 2)
    fleet.until_stage(deployment, "running")


@pytest.mark.parametrize(
    ("year", "words"),
    [
        (2035, ["trouble: certificate: expired 20", "enrol this device again"]),
        (2060, ["trouble: clock: reads 2060-01-0", "set the time or enable NTP"]),
    ],
)
def test_a_device_for_which_every_certificate_has_expired_infers_on_and_says_why_it_is_alone(
    fleet: Fleet, year: int, words: list[str]
) -> None:
    name = f"in-{year}"
    agent = fleet.running(name)
    answers(agent, "made-before")
    # Or its time to live would be over, by this clock.
    eventually(lambda: "made-before" in stored(fleet, name), "the record is in the registry")

    restart(agent, **clocks.wrong((year - 1970) * YEAR_S + DAY_S))
    agent.await_answer(name, 1)
    answers(agent, "made-then")

    def shown() -> str:
        return fleets.run("packhorse-agent", "status", "--data", str(agent.data)).out

    eventually(lambda: "certificate has expired" in shown(), "it says why it is not connected")
    said = shown()
    assert "not connected: broker 127.0.0.1" in said
    assert all(word in said for word in words), said
    assert re.search(r"telemetry: [1-9]\d* records? waits? for the registry", said), said
    answers(agent, "made-later")

    restart(agent, **clocks.right())
    wanted = {"made-before", "made-then", "made-later"}
    eventually(lambda: set(stored(fleet, name)) >= wanted, "all is there once the clock is right")
    assert sorted(stored(fleet, name)) == sorted(wanted)


def test_a_cold_boot_without_registry_and_broker_loses_nothing(fleet: Fleet) -> None:
    name = "cold-boot"
    agent = fleet.running(name)
    answers(agent, "cold-0")
    agent.kill()
    fleet.registry.kill()  # the broker dies with it
    try:
        agent.start()
        agent.await_answer(name, 1)
        for number in range(1, 20):
            answers(agent, f"cold-{number}")
        eventually(lambda: fleets.says(agent).link != "", "it says why it is alone")
        agent.kill()
        agent.start()
        agent.await_answer(name, 1)
        for number in range(20, 40):
            answers(agent, f"cold-{number}")
        assert not fleets.says(agent).connected
        assert "Connection refused" in fleets.says(agent).link
    finally:
        fleet.registry.start()

    wanted = {f"cold-{number}" for number in range(40)}
    eventually(lambda: set(stored(fleet, name)) >= wanted, "all is in the registry")
    assert sorted(stored(fleet, name)) == sorted(wanted)
    eventually(lambda: report(agent).vitals["outbox_records"] == 0, "and nothing waits any more")
