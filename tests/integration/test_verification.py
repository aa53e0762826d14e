"""The same answer everywhere: a version's check, run again where the version runs."""

import json
from collections.abc import Iterator

import pytest

from tests.support import fleets
from tests.support.fleets import Fleet

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleets.fleet() as made:
        yield made
        made.require_quiet()


def test_a_device_runs_the_check_again_in_the_worker_that_answers(fleet: Fleet) -> None:
    directory = fleet.bundle("checked", factor=2.0)
    fleet.packhorse("models", "push", str(directory))
    agent = fleet.agent("judge", site="checked")
    fleet.deploy("checked")
    agent.await_answer("checked", 1)

    said = fleet.packhorse("models", "verify", "checked:1", "--on", "device", "--json")

    assert said.code == 0, said.err
    (finding,) = json.loads(said.out)
    assert finding["where"] == "device judge"
    assert "p95 is" in finding["text"]


def test_a_version_that_runs_nowhere_cannot_be_verified(fleet: Fleet) -> None:
    directory = fleet.bundle("idle", factor=2.0)
    fleet.packhorse("models", "push", str(directory))

    said = fleet.packhorse("models", "verify", "idle", "--on", "device")

    assert said.code == 3
    assert "deploy it first" in said.err
