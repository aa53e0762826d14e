"""A registry whose services run on a target in memory, looked after pass by pass."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cloud import tables
from cloud.hosting.builds import Builds
from cloud.hosting.errors import TargetError
from cloud.hosting.opening import Targets
from cloud.hosting.reconciler import Reconciler
from cloud.hosting.targets import Target
from cloud.registry.serving import rows
from tests.support import registries
from tests.support.memory_target import MemoryMaker, MemoryTarget
from tests.support.registries import SQLITE, Registry, Stores

SERVICES = "/api/v1/services"
DOCKER = {"kind": "docker"}
OK = 200
_NUMBERS = itertools.count(1)


@dataclass
class Host:
    """A registry, and what its services run on."""

    registry: Registry
    target: MemoryTarget
    maker: MemoryMaker
    builds: Builds
    reconciler: Reconciler
    name: str = "digits"
    """Of the service that is meant when none is named."""

    @property
    def path(self) -> str:
        """Where the API has it."""
        return f"{SERVICES}/{self.name}"

    def settle(self, name: str | None = None, passes: int = 30) -> None:
        """Do passes until one says that nothing is to be done at once; time stands still."""
        name = name or self.name
        for _ in range(passes):
            try:
                wait_s = self.reconciler.reconcile(name)
            except TargetError as error:
                self.registry.services.board.fail(name, str(error), unreachable=True)
                wait_s = 1.0
            built = self.builds.run_all()
            if wait_s is None or (wait_s > 0 and not built):
                return
        raise AssertionError(f"{name} does not settle")

    def go_on(self, seconds: float, name: str | None = None) -> None:
        """Let time pass in steps, with a pass at each."""
        for _ in range(5):
            self.registry.clock.at += seconds / 5
            self.settle(name)

    def restart(self) -> None:
        """Forget all that is in memory alone, as a registry that was killed does."""
        self.builds = Builds(self.maker, self.registry.clock, lambda: None)
        put_builds(self.registry, self.builds)
        targets = self.registry.services.targets
        self.reconciler = Reconciler(self.registry.services, targets, self.builds)

    def deploy(self, name: str | None = None, *, status: int = 201, **wish: Any) -> Any:
        """Make a service, and have it looked after."""
        made = self.registry.post(
            SERVICES,
            {"name": name or self.name, "model": "scale", "target": DOCKER, **wish},
            status,
        )
        self.settle(name)
        return made

    def update(self, name: str | None = None, **changes: Any) -> Any:
        """Change a service, and have it looked after."""
        answer = self.registry.http.patch(f"{SERVICES}/{name or self.name}", json=changes)
        made = registries.checked(answer, 200)
        self.settle(name)
        return made

    def show(self, name: str | None = None) -> Any:
        """Return what the API says of a service."""
        return self.registry.get(f"{SERVICES}/{name or self.name}")

    def act(self, what: str, body: Any = None, name: str | None = None) -> Any:
        """Do something to a service, and have it looked after."""
        made = self.registry.post(f"{SERVICES}/{name or self.name}/{what}", body, 200)
        self.settle(name)
        return made

    def kinds(self, name: str | None = None) -> list[str]:
        """Return the kinds of a service's events, oldest first."""
        found = self.registry.get(
            f"/api/v1/events?subject={name or self.name}&kind=service.*&limit=200"
        )
        return [each["kind"].removeprefix("service.") for each in found["items"]]

    def events(self, kind: str, name: str | None = None) -> list[Any]:
        """Return what events of one kind say, oldest first."""
        found = self.registry.get(
            f"/api/v1/events?subject={name or self.name}&kind=service.{kind}&limit=200"
        )
        return [each["data"] for each in found["items"]]

    def row(self, name: str | None = None) -> tables.Service:
        """Return the row of a service."""
        with self.registry.services.reading() as session:
            found = session.get_one(tables.Service, name or self.name)
            session.expunge(found)
            return found

    def state(self, name: str | None = None) -> Any:
        """Return what is durably known of a service's traffic."""
        return rows.state(self.row(name))


@contextlib.contextmanager
def alone(host: Host) -> Iterator[Host]:
    """Give the same host with a service name of its own; takes away what a test left there.

    So that many tests can share one registry, which takes long to make.
    """
    made = replace(host, name=f"digits-{next(_NUMBERS)}")
    made.restart()
    yield made
    host.target.reset()
    host.maker.reset()
    if host.registry.http.get(made.path).status_code == OK:
        registries.checked(host.registry.http.delete(f"{made.path}?forget=true"), OK)


@contextlib.contextmanager
def hosting(data: Path, *, stores: Stores = SQLITE, **settings: Any) -> Iterator[Host]:
    """Give a registry with the model `scale` in three versions, and a target in memory."""
    with registries.running(data, stores=stores, **settings) as registry:
        target, maker = MemoryTarget(), MemoryMaker()
        put_target(registry, target)
        for content in (b"one", b"two", b"three"):
            registry.register("scale", content)
        builds = Builds(maker, registry.clock, lambda: None)
        put_builds(registry, builds)
        reconciler = Reconciler(registry.services, registry.services.targets, builds)
        yield Host(registry, target, maker, builds, reconciler)
        target.close()


def put_builds(registry: Registry, builds: Builds) -> None:
    """Have what this registry exports be built by these."""
    vars(registry.services)["builds"] = lambda: builds


def put_target(registry: Registry, target: Target) -> None:
    """Have every place of this registry be one target."""
    openers = dict.fromkeys(("docker", "kubernetes"), lambda _settings, _place: target)
    vars(registry.services)["targets"] = Targets(registry.services.settings, openers)
