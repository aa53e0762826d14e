"""Real agents of one site behind one counted line; and neighbours that mean harm."""

import contextlib
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from cloud.shapes import NewDeployment
from runtime.bundle import build
from runtime.bundle.build import Built
from runtime.bundle.parts import PART_BYTES
from tests.support import fleets, impostors, lines, processes
from tests.support.fleets import Fleet
from tests.support.lines import Line
from tests.support.processes import Agent, eventually

pytestmark = [pytest.mark.timeout(400), pytest.mark.slow]

SHARING = {
    "PACKHORSE_AGENT_LAN_SHARE": "true",
    "PACKHORSE_AGENT_LAN_ADDRESS": "127.0.0.1",
    "PACKHORSE_AGENT_LAN_PORT": "0",
}
BIG_BYTES = 6 * PART_BYTES + 1000
"""Of noise: no encoding makes less of it."""


@dataclass
class Site:
    """Devices, and the line that they share."""

    fleet: Fleet
    line: Line

    def deploy(self, name: str, seed: int) -> Built:
        """Have a site of the same name run a large model; return it."""
        directory = self.fleet.bundle(name)
        (directory / "noise.bin").write_bytes(random.Random(seed).randbytes(BIG_BYTES))
        processes.push(self.fleet.client, directory)
        wish = NewDeployment(model=name, selector=f"site={name}", soak_s=0.5)
        self.fleet.client.deploy(wish)
        return build.build(directory)

    def agents(self, site: str, *names: str) -> list[Agent]:
        """Return devices of a site that reach the registry through the line; none runs yet."""
        self.fleet.registry.door = self.line.port
        try:
            return [
                self.fleet.agent(name, site=site, starts=False, settings=SHARING) for name in names
            ]
        finally:
            self.fleet.registry.door = None

    def neighbour_bytes(self, name: str, model: str) -> int:
        """Return what a device says that it had from neighbours for a model."""
        for module in self.fleet.client.device(name).modules:
            if module.model == model and module.transfer is not None:
                return module.transfer.neighbour_bytes
        return 0


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with fleets.fleet() as fleet, lines.line(fleet.registry.port) as line:
        yield Site(fleet, line)


def test_four_agents_of_a_site_cost_about_one_download(site: Site) -> None:
    """Complaint: every device of a site downloads the same over the same thin line."""
    model = "shared"
    agents = site.agents(model, "dev-a", "dev-b", "dev-c", "dev-d")
    site.deploy(model, seed=1)
    before = site.line.to_client
    for agent in agents:
        agent.start()
    for agent in agents:
        agent.await_answer(model, 1, timeout_s=120)

    served = site.line.to_client - before
    assert BIG_BYTES <= served <= 1.3 * BIG_BYTES

    def told() -> int:
        return sum(site.neighbour_bytes(agent.name, model) for agent in agents)

    eventually(lambda: told() >= 3 * BIG_BYTES, "they say that they had the rest from each other")
    for agent in agents:
        agent.kill()


def test_neighbours_that_mean_harm_cost_time_and_nothing_else(site: Site) -> None:
    """Liars, drips, mutes, breakers of their word, the dead: the registry has it whole."""
    model, names = "besieged", [f"bad-{number}" for number in range(len(impostors.MANNERS))]
    built = site.deploy(model, seed=2)
    with contextlib.ExitStack() as opened:
        bad = [
            opened.enter_context(impostors.impostor(agent, manner))
            for agent, manner in zip(site.agents(model, *names), impostors.MANNERS, strict=True)
        ]
        for one in bad:
            one.offers_to_give(built)
        before, started = site.line.to_client, time.monotonic()
        (agent,) = site.agents(model, "dev-e")
        agent.start()
        agent.await_answer(model, 1, timeout_s=180)
        served, took_s = site.line.to_client - before, time.monotonic() - started

        assert [one.asked > 0 for one in bad] == [True, True, True, True, False]
        assert BIG_BYTES <= served <= 1.1 * BIG_BYTES
        assert took_s < 150
        agent.kill()
