import dataclasses
import io

import pytest
from rich.console import Console

from cloud.demo import table
from cloud.demo.score import Score, Tally
from cloud.demo.table import Outcome, Traffic, Update

GOOD = Outcome(
    devices=("dev-1",),
    deployments=("dep-1",),
    score=Score(
        produced=12,
        stored=12,
        lost=0,
        duplicated=0,
        tallies={"digits": {1: Tally(3, 5), 2: Tally(5, 5)}},
        by_device={"dev-1": 12},
    ),
    requests=2,
    failed_requests=0,
    traffic=Traffic(2048, {"dev-1": Update(1024, 8192)}, 100, 1000),
    steps={"deploy": 1.234},
    seconds=2.0,
)


def shown(outcome: Outcome) -> str:
    out = io.StringIO()
    table.show(outcome, Console(file=out, width=100))
    return out.getvalue()


def test_a_good_run_is_ok_and_shows_accuracy_bytes_and_times() -> None:
    text = shown(GOOD)

    assert GOOD.plain["ok"] is True
    assert GOOD.plain["accuracy"] == {"1": 0.6, "2": 1.0}
    assert "60.0%" in text
    assert "10% of one JSON message each" in text
    assert "dev-1  │    1.0 KiB │         8.0 KiB │   88%" in text
    assert GOOD.plain["bytes"]["update"] == {
        "dev-1": {"received": 1024, "whole": 8192, "saved": 0.875}
    }
    assert "1.2 s" in text
    assert "packhorse demo --keep" in text


@pytest.mark.parametrize(
    ("outcome", "complaint"),
    [
        (
            dataclasses.replace(GOOD, score=dataclasses.replace(GOOD.score, lost=1)),
            "1 record lost",
        ),
        (
            dataclasses.replace(GOOD, score=dataclasses.replace(GOOD.score, duplicated=2)),
            "2 records duplicated",
        ),
        (dataclasses.replace(GOOD, failed_requests=3), "3 requests failed"),
        (
            dataclasses.replace(
                GOOD, score=dataclasses.replace(GOOD.score, tallies={"digits": {1: Tally(5, 5)}})
            ),
            "not better",
        ),
        (dataclasses.replace(GOOD, trouble="the moon is full"), "the moon is full"),
    ],
)
def test_whatever_went_wrong_makes_the_run_a_failure_and_is_said(
    outcome: Outcome, complaint: str
) -> None:
    assert outcome.plain["ok"] is False
    assert complaint in " ".join(outcome.plain["complaints"])
    assert complaint in shown(outcome)


def test_addresses_of_what_is_left_running_are_not_wrapped() -> None:
    long = "packhorse login --url https://127.0.0.1:12345 " + "x" * 200
    kept = dataclasses.replace(GOOD, addresses={"log in": long})

    assert long in shown(kept)
    assert kept.plain["addresses"] == {"log in": long}
