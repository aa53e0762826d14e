"""How rounds of the serving benchmark become verdicts: its arithmetic, not its figures."""

import pytest

from tests.benchmarks import serve_goals
from tests.benchmarks.serve_goals import Goal, Round

CASE = "tiny json c8"
AT_LEAST = Goal(CASE, "req_s", 2.0, ("slow", "fast"))


def round_of(**req_s: float) -> Round:
    """Return a round in which these servers did so much."""
    return {server: {CASE: {"req_s": value}} for server, value in req_s.items()}


def test_a_ratio_is_taken_within_a_round_against_the_best() -> None:
    rounds = [round_of(ours=300, slow=1, fast=100), round_of(ours=30, slow=10, fast=1)]
    rounds.append(round_of(ours=20, slow=1, fast=10))

    verdict = serve_goals.verdict(AT_LEAST, rounds)

    assert verdict is not None
    assert verdict.value == 3.0
    assert verdict.ok


@pytest.mark.parametrize(("ours", "ok"), [(19.9, False), (20.0, True)])
def test_a_goal_is_met_from_its_bound_on(ours: float, ok: bool) -> None:  # noqa: FBT001
    verdict = serve_goals.verdict(AT_LEAST, [round_of(ours=ours, fast=10)])

    assert verdict is not None
    assert verdict.ok is ok


@pytest.mark.parametrize(("ours", "ok"), [(0.9, True), (1.1, False)])
def test_a_goal_without_others_is_about_the_figure_itself(
    ours: float,
    ok: bool,  # noqa: FBT001
) -> None:
    goal = Goal(CASE, "req_s", 1.0, at_most=True)

    verdict = serve_goals.verdict(goal, [round_of(ours=ours, fast=100)])

    assert verdict is not None
    assert verdict.ok is ok
    assert verdict.other is None


@pytest.mark.parametrize("measured", [round_of(fast=10), round_of(ours=10), {}])
def test_nothing_is_said_of_what_was_not_measured(measured: Round) -> None:
    assert serve_goals.verdict(AT_LEAST, [measured]) is None


def test_every_goal_is_one_of_its_own() -> None:
    goals = serve_goals.goals()

    assert len({(goal.case, goal.figure, goal.others) for goal in goals}) == len(goals)
