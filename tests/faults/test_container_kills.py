"""kill -9 of the whole agent while a container's image comes, and at each step of its update."""

import contextlib
import itertools
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cloud import shapes
from edge_agent import enrol
from edge_agent.containers import plan
from runtime.containers.engine import Engine
from runtime.containers.errors import EngineError
from runtime.containers.specs import Address, ContainerSeen, Event
from tests.support import (
    agents,
    containerboxes,
    engines,
    fleets,
    imageregistry,
    lines,
    ociimages,
    processes,
    smallimages,
)
from tests.support.fleets import Fleet
from tests.support.imageregistry import ImageRegistry
from tests.support.processes import Agent, eventually

pytestmark = pytest.mark.timeout(300)

RATE = 600_000
"""Of the slow line, in bytes a second: an image takes some seconds."""
ENDS = {"device.converged": "runs", "device.failed": "refused"}
NUMBERS = itertools.count(1)


class Mortal(Agent):
    """`packhorse-agent run` of a device, which can be told when to die."""

    def live(self, moment: str = "") -> None:
        """Start it (again); see tests.support.mortal_process for the moment at which it dies."""
        script = [sys.executable, "-m", "tests.support.mortal_process", moment]
        self._argv = [*script, "run", "--data", str(self.data)]
        self.spawn()

    def die(self, moment: str) -> None:
        """Start it, and wait until it has died at a moment."""
        self.live(moment)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.end()
        assert not self.runs, f"{moment} has not come: {self.tail()}"
        assert self.end() == -signal.SIGKILL, f"{moment}: {self.tail()}"


class Box:
    """A device with one container module, both of one name; it makes versions of the module."""

    def __init__(self, fleet: Fleet, engine: Engine) -> None:
        self.fleet, self.engine, self.name = fleet, engine, f"kills-{next(NUMBERS)}"
        settings = {
            "PACKHORSE_AGENT_ENGINE_URL": engines.place().url,
            "PYTHONPATH": str(agents.ROOT),
        }
        self.agent = Mortal(fleet.place / self.name, fleet.registry, self.name, settings=settings)
        self.versions = 0
        fleet.agents.append(self.agent)
        with fleet.registry.client() as client:
            token = client.make_token(shapes.NewToken(labels={"site": self.name})).token
        enrol.enrol(
            self.agent.data, url=fleet.registry.url, token=token, device_id=self.name, facts={}
        )

    def deploy(self, image: str, text: str = "", **how: Any) -> None:
        """Want the next version of the module."""
        self.versions += 1
        directory = self.fleet.place / "sources" / f"{self.name}-{self.versions}"
        text = f"{text}\nenvironment: {{VERSION: '{self.versions}'}}"
        smallimages.write(directory, name=self.name, text=text, image=image, **how)
        processes.push(self.fleet.client, directory)
        self.fleet.deploy(self.name)

    def containers(self) -> list[ContainerSeen]:
        return list(self.engine.containers({plan.DEVICE: self.name}))

    def ends_with(self, version: int, end: str, *, runs: int) -> None:
        """Wait until this is the last end that the device told, and what runs is all that is left.

        That is one container, of a version.
        """
        self._until(lambda: self.ends()[-1:] == [(version, end)], f"version {version} {end}")
        wanted = [(f"{self.name}:{runs}", True)]

        def alone() -> bool:
            seen = [(each.labels[plan.VERSION], each.running) for each in self.containers()]
            return seen == wanted and len(self.engine.networks({plan.DEVICE: self.name})) == 1

        self._until(alone, f"version {runs} alone is left")

    def _until(self, holds: Callable[[], bool], what: str) -> None:
        try:
            eventually(holds, what)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.agent.tail()}") from error

    def ends(self) -> list[tuple[int, str]]:
        """Return each end of a deployment that the device told: the version, and which end."""
        return [
            (each.data["version"], ENDS[each.kind])
            for each in self.fleet.client.events(subject=self.name)
            if each.kind in ENDS
        ]

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[int]]:
        """Note how many containers run after each that starts or ends, while the block runs."""
        running, counts = set[str](), list[int]()
        with contextlib.closing(Engine(Address(engines.place().url))) as engine:
            heard = engine.events({plan.DEVICE: self.name})
            noting = threading.Thread(target=_note, args=(heard, running, counts), daemon=True)
            noting.start()
            yield counts
        noting.join()


def _note(heard: Iterator[Event], running: set[str], counts: list[int]) -> None:
    changes = {"start": running.add, "die": running.discard}
    with contextlib.suppress(EngineError):  # the connection is closed in the end
        for event in heard:
            if event.action in changes:
                changes[event.action](event.labels[plan.START])
                counts.append(len(running))


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageRegistry]:
    with imageregistry.serving(tmp_path_factory.mktemp("images")) as made:
        yield made


@pytest.fixture
def box(fleet: Fleet, engine: Engine) -> Iterator[Box]:
    made = Box(fleet, engine)
    try:
        yield made
    finally:
        made.agent.kill()
        containerboxes.clear(engine, made.name)


def test_an_image_goes_on_from_its_last_byte_however_often_the_agent_is_killed(
    box: Box, registry: ImageRegistry
) -> None:
    image = ociimages.put(
        registry, "slow", [smallimages.sleep_layer(), ociimages.layer("slow", 2_500_000)]
    )
    whole, layers = sum(image.layers), box.agent.data / "containers" / "layers"
    kept = [0]
    with lines.line(registry.port, bytes_per_s=RATE) as line:
        box.deploy(image.by(line.port))
        for part in (0.1, 0.25, 0.4, 0.55, 0.7):
            box.agent.live()
            line.await_bytes(int(part * whole))
            box.agent.kill()
            kept.append(sum(each.stat().st_size for each in layers.rglob("*") if each.is_file()))
        box.agent.live()
        box.ends_with(1, "runs", runs=1)

    assert kept == sorted(set(kept)), "each agent had more than the one before"
    assert kept[-1] < whole, "all were killed before the end"
    assert line.to_client <= 1.05 * whole
    assert box.ends() == [(1, "runs")]
    assert fleets.tree(layers) == set()
    assert not list((box.agent.data / "downloads").iterdir())


BESIDE = {
    2: "fetching:2 verifying:2 staged:2 create:2 start:2 checking:2 journal:2 remove:1",
    3: "stop:2 remove_network:2",
    4: "remove:3",
}
"""By version: when the agent is killed, each time later, on its way to it."""
EXCLUSIVE = {
    2: "create:2 stop:1 start:2 checking:2 journal:2",
    3: "remove:2",
}


@pytest.fixture
def image(registry: ImageRegistry) -> str:
    return ociimages.put(registry, "sleeps", [smallimages.sleep_layer()]).name


def kill_in(box: Box, updates: dict[int, str], image: str, top: str) -> None:
    """Update a module to versions that are good, then to one that is not, with kills at each."""
    box.deploy(image, top=top)
    box.agent.live()
    box.ends_with(1, "runs", runs=1)
    for version, moments in updates.items():
        box.agent.kill()
        box.deploy(image, top=top)
        for moment in moments.split():
            box.agent.die(moment)
        box.agent.live()
        box.ends_with(version, "runs", runs=version)
    box.agent.kill()
    box.deploy(image, "command: [sleep, forever]", trial_s=9, top=top)
    box.agent.die(f"remove:{box.versions}")
    box.agent.live()
    box.ends_with(box.versions, "refused", runs=box.versions - 1)


def told_once(updates: dict[int, str]) -> list[tuple[int, str]]:
    """Return the ends that a device shall have told of."""
    return [(version, "runs") for version in (1, *updates)] + [(len(updates) + 2, "refused")]


def test_a_kill_at_any_step_of_an_update_never_leaves_a_device_without_a_version_that_runs(
    box: Box, image: str
) -> None:
    with box.counting() as ran:
        kill_in(box, BESIDE, image, top="")

    assert box.ends() == told_once(BESIDE)
    assert set(ran) == {1, 2}, "one was always there"


def test_a_kill_at_any_step_of_an_update_that_stops_the_old_one_first_never_lets_two_run(
    box: Box, image: str
) -> None:
    with box.counting() as ran:
        kill_in(box, EXCLUSIVE, image, top="start: stop-then-start\n")

    assert box.ends() == told_once(EXCLUSIVE)
    assert set(ran) == {0, 1}, "never two"
