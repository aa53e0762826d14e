"""A candidate through the whole loop, with real processes: registry, broker, agent, workers."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.client import Client
from cloud.shapes import CandidateGate, CandidateState, NewCandidate, NewDeployment
from tests.support import bundles, processes
from tests.support.processes import Agent, eventually

NAME = "beside"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[tuple[Agent, Client]]:
    """Give a device and a client of a registry that has two versions which answer alike."""
    with contextlib.ExitStack() as made:
        directory = made.enter_context(processes.scratch())
        registry = made.enter_context(processes.registry(directory, "nats"))
        client = made.enter_context(registry.client())
        for number, memory_mb in ((1, 2048), (2, 4096)):
            bundle = tmp_path / str(number)
            bundle.mkdir()
            bundles.write(bundle, name=NAME, factor=2.0, memory_mb=memory_mb)
            processes.push(client, bundle)
        agent = Agent(directory / "one", registry, "one")
        made.callback(agent.stop)
        agent.enrol()
        agent.start()
        yield agent, client


def test_a_candidate_is_downloaded_measured_shown_and_promoted_by_hand(
    place: tuple[Agent, Client],
) -> None:
    agent, client = place
    beside = NewCandidate(model=NAME, version=2, cpu=2, gate=CandidateGate(requests=5))
    wish = NewDeployment(model=NAME, version=1, selector="all", candidate=beside, soak_s=0)
    deployment = client.deploy(wish).id
    agent.await_answer(NAME, 1)
    seen: list[CandidateState] = []

    def passed() -> bool:
        agent.answers(NAME, 1)
        found = client.deployment(deployment).devices[0].candidate
        seen[:] = [] if found is None else [found]
        return found is not None and found.state == "passed"

    eventually(passed, "the candidate has passed its gate")
    client.promote(deployment)
    agent.await_answer(NAME, 2)

    assert (seen[0].agreed >= 5, seen[0].differed, seen[0].errors) == (True, 0, 0)
    assert client.deployment(deployment).deployment.version == 2
