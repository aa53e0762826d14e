"""A registry for the tests of a file; each uses names of its own."""

from collections.abc import Iterator

import pytest

from tests.support import fleets
from tests.support.fleets import Fleet


@pytest.fixture(scope="module")
def shared_fleet() -> Iterator[Fleet]:
    """One registry for all tests of a file."""
    with fleets.fleet() as made:
        yield made


@pytest.fixture
def fleet(shared_fleet: Fleet) -> Iterator[Fleet]:
    """Give it to one test, whose agents end with it; nothing may have logged a traceback."""
    with fleets.of_one_test(shared_fleet) as given:
        yield given
