"""The stores on which a registry is tested, each empty and forgotten afterwards."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.support import registries, s3
from tests.support.postgres import Server
from tests.support.registries import Stores

Maker = Callable[[pytest.FixtureRequest], contextlib.AbstractContextManager[Stores]]


@contextlib.contextmanager
def _sqlite(_request: pytest.FixtureRequest) -> Iterator[Stores]:
    yield registries.SQLITE


@contextlib.contextmanager
def _postgresql(request: pytest.FixtureRequest) -> Iterator[Stores]:
    server: Server = request.getfixturevalue("postgres_server")
    bucket: s3.Server = request.getfixturevalue("s3_server")
    name = server.make()
    settings = {"database_url": server.url(name), "blobs_url": bucket.url()}
    yield Stores("postgresql+s3", settings)
    server.drop(name)


KINDS: dict[str, Maker] = {"sqlite+directory": _sqlite, "postgresql+s3": _postgresql}
"""What makes them, from the request of the fixture that wants them."""
