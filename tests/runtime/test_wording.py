"""Counts as a person says them."""

import pytest

from runtime.wording import counted


@pytest.mark.parametrize(
    ("number", "noun", "does", "said"),
    [
        (0, "device", "", "0 devices"),
        (1, "device", "", "1 device"),
        (2, "process", "", "2 processes"),
        (1, "process", "", "1 process"),
        (1, "device", "are on their way", "1 device is on its way"),
        (3, "device", "are on their way", "3 devices are on their way"),
        (1, "device", "gave up", "1 device gave up"),
        (1, "record", "wait", "1 record waits"),
    ],
)
def test_one_thing_is_said_as_one(number: int, noun: str, does: str, said: str) -> None:
    assert counted(number, noun, does) == said
