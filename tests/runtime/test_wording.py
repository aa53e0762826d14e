"""Counts as a person says them."""

import pytest

from runtime.wording import counted


@pytest.mark.parametrize(
    ("number", "one", "many", "said"),
    [
        (0, "device", "", "0 devices"),
        (1, "device", "", "1 device"),
        (2, "process", "processes", "2 processes"),
        (1, "device is on its way", "devices are on their way", "1 device is on its way"),
    ],
)
def test_one_thing_is_said_as_one(number: int, one: str, many: str, said: str) -> None:
    assert counted(number, one, many) == said
