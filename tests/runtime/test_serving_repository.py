"""Models are loaded and unloaded while others ask."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path

import numpy as np
import pytest

from runtime.errors import ModelError
from runtime.inference.tensors import Arrays
from runtime.serving.dataplane import DataPlane
from runtime.serving.errors import NotReadyError, UnknownModelError
from runtime.serving.repository import Entry, Repository
from runtime.serving.scripts.isolated import Isolated
from tests.support import predictors, scripts
from tests.support.brokers import eventually
from tests.support.shelves import Shelf

X: Arrays = {"x": np.ones((1, 4), np.float32)}


class Rig:
    """A data plane, its repository, and the shelf."""

    def __init__(self, directory: Path) -> None:
        self.shelf, self.plane = Shelf(directory), DataPlane()
        self.repository = Repository(self.plane, self.shelf)

    async def answer(self, version: str | None = None) -> float:
        """Return what the model makes of ones: four times its factor."""
        given = await self.plane.run(self.plane.find("m", version), X)
        return float(given["y"][0, 0])

    def states(self) -> dict[str, str]:
        """Return the state of each version."""
        return {entry.version: entry.state for entry in self.repository.index()}

    async def until(self, **states: str) -> None:
        """Wait for states, by version with a 'v' before it."""
        wanted = {version[1:]: state for version, state in states.items()}
        await asyncio.to_thread(eventually, lambda: self.states() == wanted, str(states))


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def run(doing: Awaitable[None]) -> None:
    async def whole() -> None:
        await doing

    asyncio.run(whole())


def test_what_lies_there_is_listed_and_loaded_on_demand(rig: Rig) -> None:
    rig.shelf.put("m", "1", factor=1)

    async def story() -> None:
        assert rig.repository.index() == [Entry("m", "1", "UNAVAILABLE", "not loaded")]
        await rig.repository.load("m")
        assert rig.repository.index() == [Entry("m", "1", "READY", "")]
        assert await rig.answer() == 4

    run(story())


def test_the_newest_takes_the_name_and_the_old_goes_once_nobody_uses_it(rig: Rig) -> None:
    rig.shelf.put("m", "1", factor=1)

    async def story() -> None:
        await rig.repository.load("m")
        kept = rig.plane.find("m")
        rig.shelf.put("m", "2", factor=2)
        await rig.repository.load("m")
        assert (await rig.answer(), rig.states()) == (8, {"1": "UNLOADING", "2": "READY"})
        with pytest.raises(NotReadyError, match="m version 1 cannot be asked: it is unloading"):
            rig.plane.find("m", "1")
        assert (await rig.plane.run(kept, X))["y"][0, 0] == 4
        del kept
        await rig.until(v1="UNAVAILABLE", v2="READY")

    run(story())


def test_a_version_asked_for_by_number_is_served_beside_the_others(rig: Rig) -> None:
    rig.shelf.put("m", "1", factor=1)
    rig.shelf.put("m", "2", factor=2)

    async def story() -> None:
        await rig.repository.load("m", "2")
        await rig.repository.load("m", "1")
        assert [await rig.answer(v) for v in ("1", "2", None)] == [4, 8, 4]
        await rig.repository.unload("m", "1")
        assert await rig.answer() == 8
        assert rig.states() == {"1": "UNAVAILABLE", "2": "READY"}

    run(story())


def test_a_version_that_does_not_pass_its_check_never_answers(rig: Rig) -> None:
    rig.shelf.put("m", "1", factor=1)

    async def story() -> None:
        await rig.repository.load("m")
        rig.shelf.put("m", "2", factor=2, passes=False)
        with pytest.raises(ModelError, match="output y differs in 6 of 6 values"):
            await rig.repository.load("m")
        assert (await rig.answer(), rig.states()) == (4, {"1": "READY", "2": "UNAVAILABLE"})
        assert "output y differs" in rig.repository.index()[1].reason

    run(story())


def test_what_is_not_there_cannot_be_loaded_or_unloaded(rig: Rig) -> None:
    rig.shelf.put("m", "1", factor=1)

    async def story() -> None:
        with pytest.raises(UnknownModelError):
            await rig.repository.load("other")
        with pytest.raises(UnknownModelError):
            await rig.repository.load("m", "9")
        with pytest.raises(UnknownModelError):
            await rig.repository.unload("m")

    run(story())


def test_a_file_that_is_torn_is_told_and_can_be_loaded_once_it_is_mended(rig: Rig) -> None:
    place = rig.shelf.put("m", "1", factor=1)
    whole = (place / "model.onnx").read_bytes()
    (place / "bundle.yaml").write_text("name: m\nkind: python\nentry: score.py\n")

    async def story() -> None:
        with pytest.raises(Exception, match=r"score\.py"):
            await rig.repository.load("m")
        assert rig.states() == {"1": "UNAVAILABLE"}
        (place / "model.onnx").write_bytes(whole)
        rig.shelf.put("m", "1", factor=3)
        await rig.repository.load("m")
        assert await rig.answer() == 12

    run(story())


def test_no_request_fails_while_versions_come_and_go(rig: Rig) -> None:
    rig.shelf.put("m", "0", factor=0)

    async def story() -> None:
        await rig.repository.load("m")
        over, seen = asyncio.Event(), set()

        async def ask() -> None:
            while not over.is_set():
                served = rig.plane.find("m")
                await asyncio.sleep(0)  # as a transport does between finding and asking
                given = await rig.plane.run(served, X)
                seen.add(float(given["y"][0, 0]) == 4 * float(served.version))

        askers = [asyncio.ensure_future(ask()) for _ in range(4)]
        for number in range(1, 11):
            rig.shelf.put("m", str(number), factor=number)
            await rig.repository.load("m")
        over.set()
        await asyncio.gather(*askers)
        assert seen == {True}

    run(story())


def test_a_caller_who_leaves_does_not_stop_a_load_halfway(rig: Rig) -> None:
    rig.shelf.put("m", "1", factor=1)

    async def story() -> None:
        loading = asyncio.ensure_future(rig.repository.load("m"))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert rig.states() == {"1": "LOADING"}
        with pytest.raises(NotReadyError, match="it is loading"):
            rig.plane.find("m")
        assert not rig.plane.model_ready("m")
        loading.cancel()
        await rig.until(v1="READY")

    run(story())


def test_a_scripts_process_ends_with_the_last_request_that_uses_it(
    rig: Rig, tmp_path: Path
) -> None:
    script = "def run(inputs): return {'y': inputs['x'].sum(axis=1)}"
    scripts.write(tmp_path / "m" / "1", name="m", script=script, yaml=scripts.SIGNATURE)
    rig.shelf.put_directory("m", "1")

    async def story() -> None:
        await rig.repository.load("m")
        model = rig.plane.find("m").model
        assert (await rig.plane.run(rig.plane.find("m"), X))["y"].tolist() == [4]
        await rig.repository.unload("m")
        assert isinstance(model, Isolated)
        await asyncio.to_thread(eventually, lambda: model.pid is None, "the end of its process")

    run(story())


def test_a_replaced_model_is_closed_without_a_repository_too() -> None:
    plane, old = DataPlane(), predictors.Echo()
    plane.add("m", "1", old)
    kept = plane.find("m")
    plane.add("m", "1", predictors.Echo())
    assert not old.closed.is_set()

    del kept

    assert old.closed.wait(10)
    plane.close()
