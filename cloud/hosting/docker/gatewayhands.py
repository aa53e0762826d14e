"""Makes, starts and mends the gateways of a service, and installs what they follow."""

import dataclasses

from cloud.hosting.docker import applied, marks, plan, specs
from cloud.hosting.docker.gatewayplan import GatewayPlan
from cloud.hosting.docker.inventory import Inventory
from cloud.hosting.docker.replicahands import UID, start
from cloud.hosting.docker.specs import GatewaySpec
from cloud.hosting.errors import RefusedError
from cloud.hosting.targets import Wish
from runtime.containers.engine import Engine, File
from runtime.containers.errors import EngineRefusedError
from runtime.gateway.config import Config

_GRACE_S = 10
_TAKEN = ("port is already allocated", "address already in use", "ports are not available")


class GatewayHands:
    """Works on gateways alone. Raises EngineErrors, and RefusedError if there is no port."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def carry_out(self, wish: Wish, there: Inventory, how: GatewayPlan, wished: Config) -> Config:
        """Do what is planned; return the configuration that is installed."""
        config = applied.next_config(wished, there.installed)
        lasting = [each.id for each in there.gateways if each.id not in how.first]
        if lasting:
            self._install(wish, lasting[0], config, there)
        for container in how.first:
            self._engine.stop(container, grace_s=_GRACE_S)
            self._engine.remove(container)
        for container in how.unpause:
            self._engine.unpause(container)
        for container in how.start:
            start(self._engine, container)
        if how.make_holder:
            config = self._make_holder(wish, wished)
        for container in how.restart:
            self._engine.stop(container, grace_s=0)
            start(self._engine, container)
        for container in how.call:
            self._engine.signal(container, "SIGUSR2")
        if how.make_beside is not None:
            made = specs.beside(wish, how.make_beside)
            start(self._engine, self._create(wish, made))
        return config

    def _install(self, wish: Wish, gateway: str, config: Config, there: Inventory) -> None:
        """Write what has changed of the configuration and of what was asked for."""
        files = {
            marks.APPLIED_NAME: applied.encode(applied.of(wish, plan.fingerprints(wish))),
            marks.CONFIG_NAME: applied.config_bytes(config),
        }
        changed = tuple(
            File(name, data, owner=UID)
            for name, data in files.items()
            if there.files.get(name) != data
        )
        if changed:
            self._engine.write_files(gateway, marks.CONFIG_PATH, changed)

    def _make_holder(self, wish: Wish, wished: Config) -> Config:
        """Start the gateway that publishes the port; return the configuration that it has."""
        said = ""
        for ports in specs.port_candidates(wish):
            made = specs.holder(wish, ports)
            container = self._create(wish, made)
            # There may be files of a gateway that was removed: their numbers go on.
            there = dataclasses.replace(
                Inventory(wish.service),
                files=self._engine.read_files(container, marks.CONFIG_PATH),
            )
            config = applied.next_config(wished, there.installed)
            self._install(wish, container, config, there)
            try:
                self._engine.start(container)
            except EngineRefusedError as error:
                self._engine.remove(container)
                said = error.said
                asked = wish.port is not None and f":{wish.port}" in said
                if asked or not any(word in said for word in _TAKEN):
                    break
            else:
                return config
        if any(word in said for word in _TAKEN):
            port = "every port that was tried" if wish.port is None else f"port {wish.port}"
            raise RefusedError(f"{port} on {wish.bind} is in use: give another one")
        raise RefusedError(f"the gateway cannot be started: {said}")

    def _create(self, wish: Wish, made: GatewaySpec) -> str:
        labels = {
            marks.SERVICE: wish.service,
            marks.ROLE: marks.GATEWAY,
            marks.GENERATION: str(wish.generation),
            marks.SPEC: specs.gateway_fingerprint(wish),
            marks.STATUS: made.status,
        }
        if made.ports:
            labels[marks.PORTS] = made.ports
        spec = dataclasses.replace(made.spec, labels=labels)
        return self._engine.create(marks.gateway(wish.service, made.tag), spec)
