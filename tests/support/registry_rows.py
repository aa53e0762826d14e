"""A registry's database with devices, bundles and deployments in it, without HTTP."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from cloud import tables
from cloud.registry import deployments, desired, registration
from cloud.registry.deployments import Wish
from cloud.services import Services
from runtime.bundle import build
from runtime.topics import DeviceId
from tests.support import registries
from tests.support.registries import SQLITE, SetClock, Stores

ACTOR = "key:test"


@contextlib.contextmanager
def services(data: Path, *, stores: Stores = SQLITE) -> Iterator[Services]:
    """Open the registry's parts below `data` and in `stores`; closes them at the end."""
    opened = registries.services(data, clock=SetClock(), stores=stores)
    try:
        yield opened
    finally:
        opened.engine.dispose()


def add_device(services: Services, device: str, *, labels: dict[str, str] | None = None) -> None:
    """Have a device as if it had enrolled."""
    now = services.clock.now()
    with services.transaction() as session:
        session.add(
            tables.Device(
                id=device,
                labels=labels or {},
                created_at=now,
                certificate_serial="1",
                certificate_not_after=now + 1e6,
            )
        )
        session.flush()
        desired.recompute(session, [DeviceId(device)], now=now)


def push(services: Services, directory: Path) -> tables.Version:
    """Register the bundle in a directory, as `packhorse models push` does."""
    built = build.build(directory)
    for digest, path in built.files.items():
        services.blobs.put_file(digest, path)
    index = services.blobs.put_bytes(built.index_bytes)
    upload = registration.receive(services.blobs, built.index.name, index)
    with services.transaction() as session:
        version, _ = registration.register(session, upload, actor=ACTOR, now=services.clock.now())
        session.expunge(version)
    return version


def deploy(services: Services, model: str, selector: str = "device!=nobody") -> str:
    """Deploy the newest version of a model; return the deployment's id."""
    with services.transaction() as session:
        wish = Wish(model=model, selector=selector)
        return deployments.create(session, wish, actor=ACTOR, now=services.clock.now()).id
