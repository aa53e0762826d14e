"""Requests in a queue: batches, deadlines, cancellation, streams."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.build import build
from runtime.bundle.index import Batching, Index
from runtime.errors import InvalidError, ModelError
from runtime.inference.model import Model
from runtime.inference.tensors import Arrays
from runtime.serving import loading
from runtime.serving.dataplane import DataPlane
from runtime.serving.errors import BusyError, DeadlineError, NotReadyError
from runtime.serving.measuring import Measured
from runtime.serving.served import Ask, Prediction, Predictor
from tests.support import predictors, scripts
from tests.support.brokers import eventually
from tests.support.predictors import Gate

TOGETHER = Batching(max_size=8)
STREAM = """
def run(inputs):
    try:
        for n in range(int(inputs["x"][0, 0])):
            yield {"y": inputs["x"].sum(axis=1) + n}
    finally:
        open(__file__ + ".done", "w").close()
"""


def x(*values: float) -> Arrays:
    return {"x": np.array(values, np.float32)}


def plane_of(model: Predictor, **how: object) -> DataPlane:
    plane = DataPlane(**how)  # type: ignore[arg-type] # as each test says
    plane.add("m", "1", model)
    return plane


class Waiting:
    """Requests that wait behind one that a gate holds."""

    def __init__(self, gate: Gate, **how: object) -> None:
        self.gate, self.plane = gate, plane_of(gate, **how)
        self.served = self.plane.find("m")

    async def hold(self) -> "asyncio.Task[Arrays]":
        """Ask once, and return when that one is under way."""
        asked = asyncio.ensure_future(self.plane.run(self.served, x(0)))
        await asyncio.sleep(0)
        await asyncio.to_thread(self.gate.begun.acquire)
        return asked

    async def ask(self, *inputs: Arrays) -> list[object]:
        """Ask behind the one that is held; return the outcomes once it is let go."""
        held = await self.hold()
        asked = [asyncio.ensure_future(self.plane.run(self.served, each)) for each in inputs]
        await asyncio.sleep(0)
        self.gate.open.set()
        await held
        return await asyncio.gather(*asked, return_exceptions=True)


def listed(outcomes: list[object]) -> list[object]:
    return [o["x"].tolist() if isinstance(o, dict) else type(o) for o in outcomes]


def test_what_waits_goes_together_and_each_gets_its_own_rows() -> None:
    waiting = Waiting(Gate(batching=TOGETHER))

    outcomes = asyncio.run(waiting.ask(x(1), x(2, 3), x(4), x(5, 6, 7, 8, 9)))

    assert listed(outcomes) == [[1], [2, 3], [4], [5, 6, 7, 8, 9]]
    assert waiting.gate.sizes == [1, 4, 5]
    waiting.plane.close()


def test_without_batching_each_runs_alone() -> None:
    waiting = Waiting(Gate())

    asyncio.run(waiting.ask(x(1), x(2)))

    assert waiting.gate.sizes == [1, 1, 1]
    waiting.plane.close()


class Picky(Gate):
    """Fails on a batch that has a 13 in it."""

    def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        answer = super().predict(inputs, outputs)
        if 13 in inputs["x"]:
            raise ModelError("unlucky")
        return answer


def test_one_bad_request_of_a_batch_fails_alone() -> None:
    seen: list[Prediction] = []
    waiting = Waiting(Picky(batching=TOGETHER), on_prediction=seen.append)

    outcomes = asyncio.run(waiting.ask(x(1), x(13), x(2)))

    assert listed(outcomes) == [[1], ModelError, [2]]
    assert [p.error for p in seen] == [None, None, "unlucky", None]
    waiting.plane.close()


class Summing(Gate):
    """Gives one row whatever it is given, though its signature promises as many."""

    def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
        super().predict(inputs, outputs)
        return {"x": inputs["x"].sum(keepdims=True)}


def test_a_model_that_mixes_the_rows_of_a_batch_gets_its_requests_one_by_one() -> None:
    waiting = Waiting(Summing(batching=TOGETHER))

    assert listed(asyncio.run(waiting.ask(x(1), x(2)))) == [[1], [2]]
    waiting.plane.close()


def test_a_delay_waits_for_others_until_the_batch_is_full() -> None:
    echo = predictors.Echo(batching=Batching(max_size=3, max_delay_ms=60_000))
    plane = plane_of(echo)

    async def three() -> list[object]:
        served = plane.find("m")
        return await asyncio.gather(*(plane.run(served, x(n)) for n in range(3)))

    assert listed(asyncio.run(three())) == [[0], [1], [2]]
    assert echo.sizes == [3]
    plane.close()


def test_a_request_is_not_held_back_until_its_deadline_is_missed() -> None:
    plane = plane_of(predictors.Echo(batching=Batching(max_size=3, max_delay_ms=60_000)))
    ask = Ask(deadline=time.monotonic() + 2)

    assert asyncio.run(plane.run(plane.find("m"), x(1), None, ask))["x"].tolist() == [1]
    plane.close()


def test_who_waits_too_long_is_told_and_his_request_never_begins() -> None:
    waiting = Waiting(Gate())

    async def late() -> None:
        held = await waiting.hold()
        ask = Ask(deadline=time.monotonic() + 0.02)
        with pytest.raises(DeadlineError):
            await waiting.plane.run(waiting.served, x(5), None, ask)
        ask = Ask(deadline=time.monotonic() - 1)
        with pytest.raises(DeadlineError):
            await waiting.plane.run(waiting.served, x(6), None, ask)
        waiting.gate.open.set()
        await held

    asyncio.run(late())
    waiting.plane.close()

    assert waiting.gate.sizes == [1]
    assert waiting.plane.meter.totals()["m", "1"].errors == {"deadline": 2}


def test_a_deadline_passes_while_the_model_runs() -> None:
    waiting = Waiting(Gate())

    async def late() -> None:
        ask = Ask(deadline=time.monotonic() + 0.05)
        with pytest.raises(DeadlineError):
            await waiting.plane.run(waiting.served, x(5), None, ask)
        waiting.gate.open.set()

    asyncio.run(late())
    waiting.plane.close()


def test_a_cancelled_request_leaves_the_queue_and_makes_room() -> None:
    waiting = Waiting(Gate(), queue_limit=1)

    async def leave() -> list[object]:
        held = await waiting.hold()
        first = asyncio.ensure_future(waiting.plane.run(waiting.served, x(1)))
        await asyncio.sleep(0)
        with pytest.raises(BusyError) as busy:
            await waiting.plane.run(waiting.served, x(2))
        assert busy.value.retry_after_s > 0
        first.cancel()
        await asyncio.wait([first])
        second = asyncio.ensure_future(waiting.plane.run(waiting.served, x(3)))
        await asyncio.sleep(0)
        waiting.gate.open.set()
        return [await held, await second]

    assert listed(asyncio.run(leave())) == [[0], [3]]
    assert waiting.gate.sizes == [1, 1]
    waiting.plane.close()


def test_as_many_run_at_once_as_the_model_takes() -> None:
    gate = Gate(callers=3)
    plane = plane_of(gate)

    async def crowd() -> None:
        asked = [asyncio.ensure_future(plane.run(plane.find("m"), x(n))) for n in range(5)]
        await asyncio.sleep(0)
        for _ in range(3):
            assert await asyncio.to_thread(gate.begun.acquire, timeout=10)
        assert plane.find("m").turns.waiting == 2
        gate.open.set()
        await asyncio.gather(*asked)

    asyncio.run(crowd())
    plane.close()


def test_a_quick_model_answers_in_the_event_loop_and_large_inputs_do_not() -> None:
    echo = predictors.Echo()
    echo.inline = True
    plane = DataPlane()
    plane.add("m", "1", echo, Measured(run_s=1e-5, elements=1, quick_elements=4))
    served = plane.find("m")

    assert (served.quick, served.fits(x(1, 2, 3, 4)), served.fits(x(1, 2, 3, 4, 5))) == (
        True,
        True,
        False,
    )
    assert plane.run_now(served, x(1))["x"].tolist() == [1]
    assert asyncio.run(plane.run(served, x(1, 2, 3, 4, 5)))["x"].tolist() == [1, 2, 3, 4, 5]
    assert plane.meter.totals()["m", "1"].requests == 2
    plane.close()


def test_outputs_that_there_are_none_of_are_refused_before_the_queue() -> None:
    plane = plane_of(predictors.Echo())

    with pytest.raises(InvalidError, match="outputs: 'z' is not accepted: the model gives x"):
        asyncio.run(plane.run(plane.find("m"), x(1), ["z"]))
    plane.close()


def test_an_unloaded_model_is_not_ready_to_whoever_kept_it() -> None:
    plane = plane_of(predictors.Echo())
    served = plane.find("m")
    plane.close()

    with pytest.raises(NotReadyError, match="unloaded"):
        asyncio.run(plane.run(served, x(1)))


# Streams -----------------------------------------------------------------------------------------


LOADERS: dict[str, Callable[[Path, Index], Predictor]] = {
    "in this process": Model.load,
    "isolated": lambda directory, index: loading.load(directory, index)[0],
}


@pytest.fixture(params=[(how, kind) for how in LOADERS for kind in ("def", "async def")], ids=str)
def streaming(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[DataPlane]:
    how, kind = request.param
    script = STREAM.replace("def run", f"{kind} run")
    index = build(scripts.write(tmp_path, script=script, yaml=scripts.SIGNATURE)).index
    plane = DataPlane()
    plane.add("m", "1", LOADERS[how](tmp_path, index))
    (tmp_path / "score.py.done").unlink(missing_ok=True)  # of the run that warmed it up
    yield plane
    plane.close()


def many(count: int) -> Arrays:
    return {"x": np.array([[count, 0, 0, 0]], np.float32)}


async def gather(pieces: AsyncIterator[Arrays]) -> list[float]:
    return [float(piece["y"][0]) async for piece in pieces]


def test_a_generators_pieces_come_one_by_one_and_joined_if_no_stream_is_asked_for(
    streaming: DataPlane, tmp_path: Path
) -> None:
    served = streaming.find("m")

    assert served.streams
    assert asyncio.run(gather(streaming.stream(served, many(3)))) == [3, 4, 5]
    assert asyncio.run(gather(streaming.stream(served, many(20)))) == [20 + n for n in range(20)]
    assert asyncio.run(streaming.run(served, many(2)))["y"].tolist() == [2, 3]
    assert list(tmp_path.glob("*.done"))


def test_a_reader_who_leaves_ends_the_generator(streaming: DataPlane, tmp_path: Path) -> None:
    served = streaming.find("m")

    async def leave() -> float:
        pieces = streaming.stream(served, many(1_000_000))
        async for piece in pieces:
            await pieces.aclose()  # type: ignore[attr-defined] # it is a generator
            return float(piece["y"][0])
        return 0.0

    assert asyncio.run(leave()) == 1_000_000
    eventually((tmp_path / "score.py.done").exists, "the end of the generator")
    assert asyncio.run(gather(streaming.stream(served, many(1)))) == [1]


def test_a_stream_of_what_does_not_stream_is_one_piece() -> None:
    plane = plane_of(predictors.Echo())

    async def pieces() -> list[Arrays]:
        return [piece async for piece in plane.stream(plane.find("m"), x(1))]

    assert listed(list(asyncio.run(pieces()))) == [[1]]
    plane.close()


def test_an_error_between_pieces_reaches_the_reader(tmp_path: Path) -> None:
    script = "def run(inputs):\n    yield {'y': [1.0]}\n    raise OSError('torn')"
    scripts.write(tmp_path, script=script, yaml=scripts.SIGNATURE)
    plane = plane_of(Model.load(tmp_path, build(tmp_path).index))
    seen: list[float] = []

    async def read() -> None:
        async for piece in plane.stream(plane.find("m"), many(1)):
            seen.extend(piece["y"].tolist())

    with pytest.raises(ModelError, match="run raised OSError: torn"):
        asyncio.run(read())
    assert seen == [1]
    plane.close()


def test_async_scripts_run_side_by_side(tmp_path: Path) -> None:
    script = """
import asyncio
barrier = []

async def init(context):
    global all_there
    all_there = asyncio.Event()

async def run(inputs):
    barrier.append(1)
    if len(barrier) == 3:
        all_there.set()
    await asyncio.wait_for(all_there.wait(), 20)
    return {"y": inputs["x"].sum(axis=1)}
"""
    scripts.write(tmp_path, script=script, yaml=scripts.SIGNATURE)
    plane = plane_of(Model.load(tmp_path, build(tmp_path).index))

    async def three() -> list[float]:
        served = plane.find("m")
        given = await asyncio.gather(*(plane.run(served, many(n)) for n in range(3)))
        return [float(each["y"][0]) for each in given]

    assert asyncio.run(three()) == [0, 1, 2]
    plane.close()
