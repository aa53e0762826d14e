import asyncio
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import InvalidError, ModelError
from runtime.serving.dataplane import DataPlane
from runtime.serving.errors import BusyError, UnknownModelError
from runtime.serving.served import Origin, Prediction
from tests.support import models, predictors, serving

ORIGIN = Origin(source="directory:inbox", item="a.npy", position="1")
X = {"x": np.ones(1, np.float32)}


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
    gate = predictors.Gate()
    plane = DataPlane(queue_limit=3)
    plane.add("gate", "1", gate)

    async def crowd() -> tuple[int, int]:
        asked = [asyncio.ensure_future(plane.run(plane.find("gate"), X)) for _ in range(20)]
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
    gate = predictors.Gate()
    plane = DataPlane()
    plane.add("gate", "1", gate)

    async def ask() -> list[str]:
        asked = asyncio.ensure_future(plane.run(plane.find("gate"), X))
        await asyncio.sleep(0)
        gate.open.set()
        return list(await asked)

    assert asyncio.run(ask()) == ["x"]
    plane.close()


def test_the_version_added_last_answers_to_the_name_alone() -> None:
    plane = DataPlane()
    for version in ("1", "2"):
        gate = predictors.Gate()
        gate.open.set()
        plane.add("gate", version, gate)

    assert [plane.find("gate", v).version for v in (None, "1", "2")] == ["2", "1", "2"]
    assert plane.model_metadata("gate").versions == ("1", "2")
    plane.close()


def test_nothing_is_ready_before_there_is_a_model() -> None:
    plane = DataPlane()

    assert not plane.ready
    with pytest.raises(UnknownModelError, match="this server has none"):
        plane.model_ready("absent")
