"""Services on the tests' engine: wishes of stand-ins, and waiting for what a target says."""

import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from cloud.hosting.docker.target import DockerTarget
from cloud.hosting.targets import Condition, Observed, RevisionWish, Scale, Wish
from runtime.containers.engine import Engine
from runtime.containers.specs import ContainerSeen
from runtime.gateway.config import Config, Revision
from tests.support.brokers import eventually

PATIENCE_S = 90.0
_numbers = itertools.count(1)


@dataclass
class Service:
    """One service of a test; `told` is what it was told last."""

    name: str
    engine: Engine
    target: DockerTarget
    told: Wish
    generations: Iterator[int] = field(default_factory=lambda: itertools.count(2))

    def tell(self, weights: dict[int, int], *revisions: RevisionWish, **changes: object) -> None:
        """Apply another wish: these shares, of these revisions."""
        generation = next(self.generations)
        config = reshared(self.told.gateway, generation, weights)
        kept = {each.number: each for each in (*self.told.revisions, *revisions)}
        self.told = dataclasses.replace(
            self.told,
            generation=generation,
            revisions=tuple(kept[number] for number in weights),
            gateway=config,
            **changes,  # type: ignore[arg-type]
        )
        self.target.apply(self.told)

    def look(self) -> Observed:
        """Return what there is."""
        return self.target.observe(self.name)

    def until(self, holds: Callable[[Observed], bool], what: str) -> Observed:
        """Wait for something to be seen."""
        seen = [self.look()]

        def look() -> bool:
            seen[0] = self.look()
            return holds(seen[0])

        try:
            eventually(look, what, PATIENCE_S)
        except AssertionError as error:
            raise AssertionError(f"{error}: {seen[0]}") from error
        return seen[0]

    def until_ready(self) -> Observed:
        """Wait until it is as it was told to be, and nothing is on its way out."""
        wished = {each.number for each in self.told.revisions}
        return self.until(
            lambda seen: (
                seen.condition is Condition.READY
                and seen.generation == self.told.generation
                and {each.number for each in seen.revisions} == wished
                and all(each.ready == each.wanted for each in seen.revisions)
                and len(self.containers("replica")) == sum(each.wanted for each in seen.revisions)
            ),
            f"{self.name} is as it was told to be",
        )

    def containers(self, role: str) -> tuple[ContainerSeen, ...]:
        """Return its containers of a role."""
        return self.engine.containers({"packhorse.service": self.name, "packhorse.role": role})

    @property
    def url(self) -> str:
        """Where clients ask."""
        return self.look().endpoints[0]


def reshared(config: Config, generation: int, weights: dict[int, int]) -> Config:
    """Return a configuration with other shares."""
    revisions = tuple(Revision(f"r{number}", weight) for number, weight in weights.items())
    return Config(
        config.service,
        generation,
        revisions,
        keys=config.keys,
        anonymous=config.anonymous,
        timeout_s=config.timeout_s,
    )


def revision(number: int, image: str, *, replicas: int = 1, **env: str) -> RevisionWish:
    """Return a revision of stand-ins that say their number."""
    return RevisionWish(
        number,
        image,
        model="scale",
        version=number,
        bundle="d" * 64,
        scale=Scale(replicas),
        env={"REVISION": str(number), **env},
    )


def new(engine: Engine, target: DockerTarget, gateway_image: str, first: RevisionWish) -> Service:
    """Return a service with a name of its own, not applied yet."""
    name = f"demo-{os.getpid()}-{next(_numbers)}"  # other test processes use the engine too
    config = Config(name, 1, (Revision(f"r{first.number}", 100),), anonymous=True, timeout_s=20)
    return Service(name, engine, target, Wish(name, 1, (first,), gateway_image, config))
