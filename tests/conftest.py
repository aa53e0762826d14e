"""Stores for the registry under test: what takes `stores` runs once on each kind.

Nothing is imported before it is used: devices' tests run without the registry's libraries.
"""

import gc
import itertools
import logging
import os
import signal
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from cloud.images.builder import Builder
    from runtime.containers.engine import Engine
    from tests.support import engines, s3
    from tests.support.postgres import Server
    from tests.support.registries import Stores

# Tests that speak gRPC start processes too: see runtime/serving/rpc/__init__.py.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

# How long an example takes says more of what else the machine does than of what is tested.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

LONG = frozenset({"e2e", "faults", "integration", "properties"})
"""Directories of tests that start many processes, or try many cases."""


def pytest_configure() -> None:
    """Let Ctrl-C reach the programs under test, also where a shell runs all of this with `&`."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Look for garbage only after this, and never among the modules and the thousands of tests."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deal the tests to the workers of pytest-xdist so that each has the long ones first.

    Each begins with an equal part of this list and takes from others' ends when it is through: so
    what is taken are short tests, and those that share what takes long to make stay together.
    """
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    long: dict[Path, list[pytest.Item]] = {}
    short, dealt = [], []
    for item in items:
        # The first of them makes the images of all.
        if "engine_rig" in getattr(item, "fixturenames", ()) and not item.get_closest_marker(
            "timeout"
        ):
            item.add_marker(pytest.mark.timeout(600))
        if item.path.parent.name in LONG:
            long.setdefault(item.path, []).append(item)
        else:
            short.append(item)
    for worker in range(workers):
        part = list(itertools.chain(*list(long.values())[worker::workers]))
        room = max(0, (len(items) - len(dealt)) // (workers - worker) - len(part))
        dealt += [*part, *short[:room]]
        del short[:room]
    items[:] = [*dealt, *short]


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    """Take away what a command that a test ran in this process set up for its own log lines."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in list(root.handlers):
        # Exactly this: pytest's own ones, which come and go, are of other kinds.
        if type(handler) is logging.StreamHandler and handler not in before:
            root.removeHandler(handler)
    root.setLevel(level)


@pytest.fixture(scope="session")
def postgres_server() -> "Iterator[Server]":
    """One server for all tests of this process; its databases last for one test each."""
    from tests.support import postgres  # noqa: PLC0415 - see above

    with postgres.serving() as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> "Iterator[s3.Server]":
    """One server for all tests of this process; a bucket for each that asks for a URL."""
    from tests.support import s3  # noqa: PLC0415 - see above

    with s3.serving() as server:
        yield server


@pytest.fixture(params=["sqlite+directory", "postgresql+s3"])
def stores(request: pytest.FixtureRequest) -> "Iterator[Stores]":
    """Where the registry keeps what it keeps: empty, and forgotten after the test."""
    from tests.support import stores as kinds  # noqa: PLC0415 - see above

    with kinds.KINDS[request.param](request) as made:
        yield made


@pytest.fixture(scope="session")
def engine_rig() -> "Iterator[engines.Rig]":
    """One Docker engine for all tests of all processes."""
    from tests.support import engines  # noqa: PLC0415 - see above

    with engines.shared() as rig:
        yield rig


@pytest.fixture(scope="session")
def engine(engine_rig: "engines.Rig") -> "Iterator[Engine]":
    """A connection to that engine."""
    from runtime.containers.engine import Engine  # noqa: PLC0415 - see above
    from runtime.containers.specs import Address  # noqa: PLC0415 - see above

    made = Engine(Address(engine_rig.url))
    yield made
    made.close()


@pytest.fixture(scope="session")
def builder(engine: "Engine") -> "Builder":
    """Builds images there; what they are made of is kept for the next run."""
    from cloud.images.builder import Builder  # noqa: PLC0415 - see above
    from tests.support import engines  # noqa: PLC0415 - see above

    return Builder(engine, engines.CACHE / "images")


@pytest.fixture(scope="session")
def gateway_image(builder: "Builder") -> str:
    """The image of gateways, on the base image that the engine has."""
    from tests.support import engines  # noqa: PLC0415 - see above

    return builder.gateway(base_image=engines.BASE).reference
