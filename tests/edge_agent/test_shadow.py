"""Shadow and canary on a real agent with real workers; mirroring and its parts by themselves."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge_agent.errors import NotRunningError
from edge_agent.worker.tally import Budget, Tally
from runtime.bundle.build import build
from runtime.bundle.index import Check
from runtime.candidates import Candidate, CandidateReport, Counts, Gate, Mode, Promote
from runtime.errors import LinkError
from runtime.inference import agreement
from tests.support import agents
from tests.support.agents import Device

ROW = [1.0, 2.0, 3.0, 4.0]
DOUBLE, TRIPLE = [2.0, 4.0, 6.0, 8.0], [3.0, 6.0, 9.0, 12.0]
FEW = Gate(requests=20)


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with agents.device() as made:
        made.start()
        made.bundle("first")
        yield made


@pytest.fixture
def running(device: Device) -> Device:
    """Give a device on which a bundle that doubles is running, alone."""
    device.want(device.directory / "first")
    device.until_running(device.directory / "first")
    assert device.process is not None
    agent = psutil.Process(device.process.pid)
    device.until(lambda: device.module().candidate is None, "no candidate is wanted")
    device.until(lambda: len(agent.children()) == 1, "one worker is left")
    return device


def want(device: Device, beside: Path, **rules: object) -> None:
    """Let the registry want the first bundle, with another one as its candidate."""
    device.server.add(beside)
    settings: dict[str, object] = {"gate": FEW, "cpu": 2.0} | rules
    made = Candidate(build(beside).digest, beside.name, 7, **settings)  # type: ignore[arg-type] # as given
    device.want(device.directory / "first", candidate=made)


def until(device: Device, state: str) -> CandidateReport:
    """Wait until the candidate is in a state."""
    seen: list[CandidateReport] = []

    def holds() -> bool:
        found = device.module().candidate
        seen[:] = [] if found is None else [found]
        return found is not None and found.state == state

    device.until(holds, f"the candidate is {state}")
    return seen[0]


def answer_of(device: Device) -> object:
    """Return an answer, or the error that there was instead."""
    try:
        return device.infer(ROW)
    except (LinkError, NotRunningError, OSError) as error:
        return error


@contextlib.contextmanager
def asking(device: Device) -> Iterator[list[object]]:
    """Ask while the block runs; give the answers, or errors, as they come."""
    answers: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.wait(0.005):
            answers.append(answer_of(device))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()


def test_a_shadow_that_agrees_is_promoted_by_its_gate_without_a_failed_request(
    running: Device,
) -> None:
    """Also: a new model is measured on the real board, with real inputs, before it answers."""
    same = running.bundle("same", change=lambda path: (path / "model.txt").write_text("two"))
    with asking(running) as answers:
        want(running, same, promote=Promote.BY_GATE)
        found = until(running, "promoted")
        running.until_running(same)

    assert [answer for answer in answers if answer != DOUBLE] == []
    assert (found.requests >= 20, found.agreed, found.errors) == (True, found.requests, 0)
    assert found.p95_ms is not None
    assert found.own_p95_ms is not None


def test_a_shadow_that_differs_is_ended_and_no_client_ever_sees_its_answer(
    running: Device,
) -> None:
    other = running.bundle("other", factor=3.0)
    assert running.process is not None
    agent = psutil.Process(running.process.pid)
    with asking(running) as answers:
        want(running, other, promote=Promote.BY_GATE)
        found = until(running, "failed")

    assert [answer for answer in answers if answer != DOUBLE] == []
    assert "output y differs" in found.reason
    running.until(lambda: len(agent.children()) == 1, "its worker has ended")


def test_a_candidate_over_its_memory_budget_is_ended_with_the_figures(running: Device) -> None:
    same = running.bundle("same", change=lambda path: (path / "model.txt").write_text("two"))
    want(running, same, memory_mb=1)

    found = until(running, "failed")

    assert "limit 1 MiB (candidate.memory_mb)" in found.reason
    assert (running.infer(ROW), running.module().restarts) == (DOUBLE, 0)


def test_a_canary_answers_its_fraction_and_the_rest_falls_back_when_it_dies(
    running: Device,
) -> None:
    other = running.bundle("other", factor=3.0)
    assert running.process is not None
    agent = psutil.Process(running.process.pid)
    own = {child.pid for child in agent.children()}
    lenient = Gate(requests=10_000, agreement=0.0)
    with asking(running) as answers:
        want(running, other, mode=Mode.CANARY, fraction=0.5, gate=lenient)
        running.until(lambda: answers.count(TRIPLE) > 10, "the canary answers")
        (canary,) = [child for child in agent.children() if child.pid not in own]
        canary.kill()
        found = until(running, "failed")
        count = len(answers)
        running.until(lambda: len(answers) > count + 10, "more answers")
        after = answers[count:]

    assert [answer for answer in answers if answer not in (DOUBLE, TRIPLE)] == []
    assert after.count(TRIPLE) == 0
    assert (found.served > 0, found.differed > 0, found.agreed) == (True, True, 0)
    assert "killed by SIGKILL" in found.reason
    assert running.module().restarts == 0


def test_labels_are_compared_and_the_scores_beside_them_are_not() -> None:
    own = {"label": np.array([1, 2]), "scores": np.array([[0.1, 0.9], [0.2, 0.8]])}
    near = {"label": np.array([1, 2]), "scores": np.array([[0.4, 0.6], [0.4, 0.6]])}
    far = {"label": np.array([1, 1]), "scores": own["scores"]}

    assert agreement.difference(Check(inputs=""), own, near) == ""
    assert "output label differs in 1 of 2" in agreement.difference(Check(inputs=""), own, far)


def test_scores_agree_if_the_same_one_is_highest() -> None:
    own = {"p": np.array([[0.1, 0.9], [0.8, 0.2]], np.float32)}
    near = {"p": np.array([[0.4, 0.6], [0.6, 0.4]], np.float32)}
    far = {"p": np.array([[0.4, 0.6], [0.3, 0.7]], np.float32)}

    assert agreement.difference(Check(inputs=""), own, near) == ""
    found = agreement.difference(Check(inputs=""), own, far)
    assert "highest elsewhere in 1 of 2 rows: in row 1 at 1" in found


def test_other_values_agree_within_the_tolerances_of_the_check() -> None:
    own, other = {"y": np.array([1.0, 100.0])}, {"y": np.array([1.0, 101.0])}

    assert agreement.difference(Check(inputs="", rtol=0.02), own, other) == ""
    assert "differs in 1 of 2" in agreement.difference(Check(inputs="", rtol=0.001), own, other)


def test_an_output_that_one_version_alone_gives_is_a_difference() -> None:
    assert "only one version" in agreement.difference(
        Check(inputs=""), {"y": np.zeros(1)}, {"z": np.zeros(1)}
    )
    assert "shape [1]" in agreement.difference(
        Check(inputs=""), {"y": np.zeros(1)}, {"y": np.zeros(2)}
    )


def test_a_candidate_over_its_share_of_the_processor_is_given_nothing_until_time_has_passed() -> (
    None
):
    budget = Budget(0.5, now=0.0)
    budget.used(10.0)
    assert budget.allows(0.0)

    budget.used(12.0)

    assert not budget.allows(1.9)
    assert budget.allows(2.1)


def test_a_tally_goes_on_from_what_was_counted_before_a_restart() -> None:
    before = Counts(requests=10, agreed=9, differed=1, p95_ms=4.0, own_p95_ms=3.0, example="row 0")
    tally = Tally(before)

    tally.compared("", 90.0, 80.0)
    cold = tally.counts()
    for _ in range(19):
        tally.compared("", 5.0, 6.0)
    tally.failed("no answer")
    warm = tally.counts()

    assert (cold.requests, cold.agreed, cold.differed) == (11, 10, 1)
    assert (cold.p95_ms, cold.own_p95_ms) == (4.0, 3.0), "the first one after a start says nothing"
    assert (warm.requests, warm.agreed, warm.errors, warm.example) == (31, 29, 1, "no answer")
    assert (warm.p95_ms, warm.own_p95_ms) == (5.0, 6.0)
