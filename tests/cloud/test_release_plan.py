"""What a release does, and in which order; what it asks of a service that is there."""

from typing import Any

import pytest

from cloud.cli.release_steps import _on_top
from cloud.releasing.plan import ServiceWish


@pytest.mark.parametrize(
    ("strategy", "waits"),
    [
        ({}, False),
        ({"kind": "rolling"}, False),
        ({"kind": "canary", "steps": [10, 100]}, False),
        ({"kind": "canary", "steps": [10, 50]}, True),
        ({"kind": "blue-green"}, True),
        ({"kind": "shadow"}, True),
    ],
)
def test_a_version_that_waits_for_a_word_gets_it_once_it_is_verified(
    strategy: dict[str, Any], *, waits: bool
) -> None:
    assert ServiceWish("digits", None, {"strategy": strategy}).waits is waits


def test_what_a_release_says_nothing_of_stays_as_it_is() -> None:
    before: dict[str, Any] = {
        "resources": {"cpu": 2.0, "memory_mb": 512, "gpus": 0},
        "scale": {"least": 3, "most": None},
        "gateway": {"anonymous": False},
        "route": None,
    }
    changes = {"resources": {"memory_mb": 1024}, "strategy": {"kind": "canary"}}

    assert _on_top(before, changes) == {
        "resources": {"cpu": 2.0, "memory_mb": 1024, "gpus": 0},
        "strategy": {"kind": "canary"},
    }
