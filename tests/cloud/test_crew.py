import threading

import pytest

from cloud.crew import Crew


def test_a_duty_that_ends_by_itself_is_named() -> None:
    crew = Crew()
    crew.start("steady", crew.stopping.wait)
    crew.start("brief", lambda: None)

    assert crew.wait() == "brief"
    assert crew.alive() == {"steady": True, "brief": False}
    assert crew.stop(5.0) == []


@pytest.mark.parametrize("error", [ValueError("a bug"), SystemExit(3)], ids=["bug", "exit"])
def test_a_duty_that_fails_is_named(error: BaseException) -> None:
    def fail() -> None:
        raise error

    crew = Crew()
    crew.start("broken", fail)

    assert crew.wait() == "broken"


def test_a_bell_is_no_failure_and_may_be_rung_before_anybody_listens() -> None:
    crew = Crew()
    crew.start("steady", crew.stopping.wait)
    crew.ring()

    assert crew.wait() is None
    assert crew.stop(5.0) == []


def test_a_duty_that_does_not_end_is_told_about() -> None:
    crew, late = Crew(), threading.Event()
    crew.start("late", lambda: _wait(late))

    assert crew.stop(0.05) == ["late"]
    late.set()
    assert crew.stop(5.0) == []


def _wait(event: threading.Event) -> None:
    event.wait(10.0)
