"""A fleet whose registry also serves models on the tests' Docker engine.

with servicefleets.fleet(rig) as fleet:
    fleet.packhorse("services", "deploy", "press", "--bundle", "press:1", "--target", "docker")
    with servicefleets.asking(fleet, "press") as load:
        ...

Images are made of what former runs left in build/parts. What the services had on the engine goes
with the block, whether the registry still lives or not.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cloud import shapes
from cloud.hosting.docker.target import DockerTarget
from runtime.containers.engine import Engine
from runtime.containers.specs import Address
from tests.support import asking as asks
from tests.support import engines, fleets, processes
from tests.support.fleets import ROW, Fleet

SUM = float(np.sum(ROW))
PATIENCE_S = 120.0


@contextlib.contextmanager
def fleet(rig: engines.Rig, environment: Mapping[str, str] | None = None) -> Iterator[Fleet]:
    """Run a registry that may use the engine; nothing that ran here may log a traceback."""
    own = {"PACKHORSE_DOCKER_HOST": rig.url, "PACKHORSE_BASE_IMAGE": engines.BASE}
    names: set[str] = set()
    try:
        with fleets.fleet({**own, **(environment or {})}) as made:
            engines.lend_images(made.registry.data)
            try:
                yield made
                made.require_quiet()
            finally:
                names.update(_names(made))
    finally:
        _sweep(rig, names)


def _names(fleet: Fleet) -> Iterator[str]:
    return (each.name for each in fleet.client.services())


def _sweep(rig: engines.Rig, names: set[str]) -> None:
    target = DockerTarget(Engine(Address(rig.url)))
    with contextlib.closing(target):
        for name in names:
            target.delete(name)


def key(fleet: Fleet, service: str, name: str = "tests") -> str:
    """Return a new key of a service that all its gateways know."""
    made = fleet.client.add_service_key(service, shapes.NewServiceKey.make(name=name)).key
    until(
        fleet, service, lambda seen: seen.generation == seen.in_force, "its gateways know the key"
    )
    return made


def until(fleet: Fleet, service: str, holds: Any, what: str) -> shapes.ServiceDetail:
    """Wait until something holds of a service; return how it is then."""
    seen = [fleet.client.service(service)]

    def look() -> bool:
        seen[0] = fleet.client.service(service)
        return bool(holds(seen[0]))

    try:
        processes.eventually(look, f"{service}: {what}", PATIENCE_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {seen[0]}: {fleet.registry.tail()}") from error
    return seen[0]


@contextlib.contextmanager
def asking(
    fleet: Fleet,
    service: str,
    model: str,
    bearer: str,
    *,
    clients: int = 2,
    row: Sequence[float] = ROW,
) -> Iterator[asks.Load]:
    """Ask a service again and again while the block runs."""
    detail = fleet.client.service(service)
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, len(row)], "data": list(row)}
    with asks.asking(
        detail.endpoints[0],
        path=f"/v2/models/{model}/infer",
        body=json.dumps({"inputs": [tensor]}).encode(),
        headers={"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"},
        clients=clients,
    ) as load:
        yield load


def factor(load: asks.Load) -> float:
    """Return by which factor the version multiplies that answered last; 0: none did yet."""
    return 0.0 if load.last is None else float(load.last["outputs"][0]["data"][0]) / SUM
