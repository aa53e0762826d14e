import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.index import Signature, TensorSpec
from runtime.clock import SystemClock
from runtime.errors import InvalidError, ModelError
from runtime.inference.tensors import Arrays, TensorIn
from runtime.serving.dataplane import DataPlane, InferRequest, Origin, Prediction
from runtime.serving.errors import BusyError, UnknownModelError
from tests.support import models, serving

ORIGIN = Origin(source="directory:inbox", item="a.npy", position="1")
REQUEST = InferRequest(inputs=[TensorIn("x", (1,), "FP32", [1.0])])


class Gate:
    """A predictor that waits until it is let go."""

    signature = Signature(
        inputs=(TensorSpec("x", "FP32", (1,)),), outputs=(TensorSpec("x", "FP32", (1,)),)
    )
    callers = 1
    output_names: tuple[str, ...] | None = ("x",)

    def __init__(self) -> None:
        self.open = threading.Event()

    def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        assert outputs is None
        assert self.open.wait(30)
        return inputs


def test_a_source_asks_with_arrays_and_its_origin_is_seen(tmp_path: Path) -> None:
    seen: list[Prediction] = []
    index = models.install(tmp_path, models.linear_model(), name="sums")
    with serving.plane_of(tmp_path, index, seen.append) as plane:
        outputs = plane.predict("sums", {"x": np.ones(4)}, ORIGIN)

    assert outputs["y"].tolist() == [[4, 4, 4]]
    assert [prediction.origin for prediction in seen] == [ORIGIN]


def test_what_the_hook_raises_reaches_a_source(tmp_path: Path) -> None:
    def refuse(_prediction: Prediction) -> None:
        raise OSError(28, "No space left on device")

    index = models.install(tmp_path, models.linear_model(), name="sums")
    with (
        serving.plane_of(tmp_path, index, refuse) as plane,
        pytest.raises(OSError, match="No space"),
    ):
        plane.predict("sums", {"x": np.ones(4)}, ORIGIN)


def test_a_source_learns_what_is_wrong(tmp_path: Path) -> None:
    index = models.install(tmp_path, models.reshape_model(), name="fails")
    with serving.plane_of(tmp_path, index) as plane:
        with pytest.raises(ModelError, match="reshaped"):
            plane.predict("fails", {"x": np.ones(4)}, ORIGIN)
        with pytest.raises(InvalidError, match="shape"):
            plane.predict("fails", {"x": np.ones(5)}, ORIGIN)
        with pytest.raises(UnknownModelError, match="this server has fails version 1"):
            plane.predict("absent", {"x": np.ones(4)}, ORIGIN)


def test_more_requests_than_may_wait_are_refused_at_once_and_the_others_answered() -> None:
    gate = Gate()
    plane = DataPlane(on_prediction=lambda _: None, clock=SystemClock(), queue_limit=3)
    plane.add("gate", "1", gate)

    async def crowd() -> tuple[int, int]:
        asked = [asyncio.ensure_future(plane.infer("gate", None, REQUEST)) for _ in range(20)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        gate.open.set()
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, BusyError)]
        return len(refused), len(outcomes) - len(refused)

    refused, answered = asyncio.run(crowd())
    plane.close()

    assert refused + answered == 20
    assert 3 <= answered <= 4


def test_the_event_loop_goes_on_while_a_model_thinks() -> None:
    gate = Gate()
    plane = DataPlane(on_prediction=lambda _: None, clock=SystemClock())
    plane.add("gate", "1", gate)

    async def ask() -> str:
        asked = asyncio.ensure_future(plane.infer("gate", None, REQUEST))
        await asyncio.sleep(0)
        gate.open.set()
        return (await asked).model_name

    assert asyncio.run(ask()) == "gate"
    plane.close()


def test_the_version_added_last_answers_to_the_name_alone() -> None:
    plane = DataPlane(on_prediction=lambda _: None, clock=SystemClock())
    for version in ("1", "2"):
        gate = Gate()
        gate.open.set()
        plane.add("gate", version, gate)

    async def versions() -> list[str]:
        answers = [await plane.infer("gate", asked, REQUEST) for asked in (None, "1", "2")]
        return [answer.model_version for answer in answers]

    assert asyncio.run(versions()) == ["2", "1", "2"]
    assert plane.model_metadata("gate").versions == ("1", "2")
    plane.close()


def test_nothing_is_ready_before_there_is_a_model() -> None:
    plane = DataPlane(on_prediction=lambda _: None, clock=SystemClock())

    assert not plane.ready
    with pytest.raises(UnknownModelError, match="this server has none"):
        plane.model_ready("absent")
