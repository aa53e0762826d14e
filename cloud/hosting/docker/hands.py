"""Does what was planned for a service, in an order in which nothing with traffic is taken away."""

import logging
from functools import partial

from cloud.hosting.docker import gatewayplan, marks, plan, specs
from cloud.hosting.docker.farewells import Farewells
from cloud.hosting.docker.gatewayhands import GatewayHands
from cloud.hosting.docker.gatewayplan import GatewayPlan
from cloud.hosting.docker.inventory import Inventory, take
from cloud.hosting.docker.plan import Plan
from cloud.hosting.docker.replicahands import ReplicaHands, require_ours
from cloud.hosting.targets import Wish
from runtime.containers.engine import Engine
from runtime.containers.errors import EngineRefusedError
from runtime.containers.specs import Credentials
from runtime.gateway.config import Config

log = logging.getLogger(__name__)

DELETE_GRACE_S = 10


class Hands:
    """Changes what an engine runs. All raise EngineErrors; one service at a time."""

    def __init__(
        self, engine: Engine, farewells: Farewells, credentials: Credentials | None
    ) -> None:
        self._engine, self._farewells, self._credentials = engine, farewells, credentials
        self._replicas, self._gateways = ReplicaHands(engine), GatewayHands(engine)
        self.pulling: dict[str, str] = {}
        """Why images could not be pulled, by name."""

    def apply(self, wish: Wish) -> list[str]:
        """Make what is there like the wish; return what the engine refused."""
        self._pull(wish)
        self._make_places(wish)
        there = self._take(wish)
        todo, how = plan.plan(wish, there), gatewayplan.gateways(wish, there)
        troubles = self._replicas.carry_out(wish, todo)
        if not there.gateways and self._engine.images.find(wish.gateway_image) is None:
            why = self.pulling.get(wish.gateway_image, "the engine does not have it")
            return [*troubles, f"the gateway's image {wish.gateway_image}: {why}"]
        config = self._gateways.carry_out(wish, there, how, todo.config)
        self._send_away(wish, todo, how, config)
        return troubles

    def delete(self, service: str) -> None:
        """Remove all that is a service's."""
        mark = {marks.SERVICE: service}
        for container in self._engine.containers(mark):
            if marks.is_gateway(container) and container.running:
                self._engine.stop(container.id, grace_s=DELETE_GRACE_S)
        for container in self._engine.containers(mark):
            self._engine.remove(container.id)
        for volume in self._engine.volumes(mark):
            self._engine.remove_volume(volume)
        for network in self._engine.networks(mark):
            self._engine.remove_network(network)

    def _take(self, wish: Wish) -> Inventory:
        return take(self._engine, wish.service, self._farewells.leaving(wish.service))

    def _pull(self, wish: Wish) -> None:
        """Fetch what images are missing, if they are an image registry's."""
        for image in dict.fromkeys([wish.gateway_image, *(each.image for each in wish.revisions)]):
            if self._engine.images.find(image) is not None:
                self.pulling.pop(image, None)
            elif is_remote(image):
                log.info("pulling image", extra={"image": image})
                try:
                    self._engine.images.pull(image, self._credentials, lambda _line: None)
                    self.pulling.pop(image, None)
                except EngineRefusedError as error:
                    self.pulling[image] = f"it cannot be pulled: {error.said}"

    def _make_places(self, wish: Wish) -> None:
        """Make the network and the volumes; raise RefusedError if their names are somebody's."""
        service, mark = wish.service, {marks.SERVICE: wish.service}
        network = marks.network(service)
        found = self._engine.network_labels(network)
        require_ours("network", network, service, found)
        self._engine.make_network(network, mark)
        for volume in (marks.config_volume(service), marks.capture_volume(service)):
            require_ours("volume", volume, service, self._engine.volume_labels(volume))
            self._engine.make_volume(volume, mark)

    def _send_away(self, wish: Wish, todo: Plan, how: GatewayPlan, config: Config) -> None:
        """Let go, in the background, of what nothing asks any more."""
        service, generation = wish.service, config.generation
        wished, grace_s = specs.gateway_fingerprint(wish), specs.grace_s(wish)

        def followed() -> bool:
            return take(self._engine, service).in_force(generation)

        def succeeded() -> bool:
            return any(
                each.labels.get(marks.SPEC) == wished and status.generation >= generation
                for each, status in take(self._engine, service).serving
            )

        for container in todo.leave:
            end = partial(self._end, container, grace_s)
            self._farewells.begin(service, container, followed, end)
        for container in how.leave:
            end = partial(self._end, container, specs.STOP_S)
            self._farewells.begin(service, container, succeeded, end)
        for container in how.hold:
            hold = partial(self._engine.signal, container, "SIGUSR1")
            self._farewells.begin(service, f"hold {container}", succeeded, hold)

    def _end(self, container: str, grace_s: int) -> None:
        self._engine.stop(container, grace_s=grace_s)
        self._engine.remove(container)


def is_remote(image: str) -> bool:
    """Say whether an image's name says in which image registry it is."""
    host, slash, _ = image.partition("/")
    return bool(slash) and ("." in host or ":" in host or host == "localhost")
