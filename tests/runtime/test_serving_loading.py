"""What is loaded for a server: where it runs, how quick it is, ensembles of all kinds."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import index as bundle_index
from runtime.bundle.build import build
from runtime.bundle.index import Batching
from runtime.errors import InvalidError, ModelError
from runtime.inference.model import Model
from runtime.inference.tensors import Arrays
from runtime.serving import loading, measuring
from runtime.serving.dataplane import DataPlane
from runtime.serving.scripts.isolated import Isolated
from tests.support import bundles, models, predictors, scripts
from tests.support.bundle_sources import WIDTH, write_bundle

BATCHED = "name: scale\nkind: onnx\nmodel: model.onnx\nbatching: {max_size: 8, max_delay_ms: 2}\n"
BRANCHES = """
name: both
kind: ensemble
ensemble:
  steps:
    - {name: left, bundle: left}
    - {name: right, bundle: right}
    - {name: total, bundle: total, inputs: {a: left.y, b: right.y}}
  outputs: {total: total.total, left: left.y}
"""
TOTAL = """
name: total
kind: python
entry: score.py
signature:
  inputs:
    - {name: a, datatype: FP32, shape: [-1, 4]}
    - {name: b, datatype: FP32, shape: [-1, 4]}
  outputs: [{name: total, datatype: FP32, shape: [-1]}, {name: pid, datatype: INT64, shape: [1]}]
"""
SCRIPT = """
import os
def run(inputs):
    if inputs["a"][0, 0] == 13:
        os._exit(4)
    return {"total": (inputs["a"] + inputs["b"]).sum(axis=1), "pid": [os.getpid()]}
"""


def ask(plane: DataPlane, inputs: Arrays) -> Arrays:
    return asyncio.run(plane.run(plane.find("m"), inputs))


def test_a_small_graph_is_quick_and_a_large_one_is_not(tmp_path: Path) -> None:
    small, quick = loading.load(tmp_path / "s", models.install(tmp_path / "s", models.mlp_model()))
    large, slow = loading.load(
        tmp_path / "l", models.install(tmp_path / "l", models.slow_model(400))
    )

    assert (small.inline, large.inline) == (True, True)
    assert quick.quick_elements >= quick.elements == 16
    assert (slow.quick_elements, slow.run_s > measuring.QUICK_S) == (0, True)


def test_what_may_have_effects_is_run_but_once_to_be_warm() -> None:
    echo = predictors.Echo()

    measured = measuring.measure(echo, {"x": np.ones(1, np.float32)})

    assert (echo.sizes, measured.quick_elements) == ([1], 0)


def test_a_model_that_fails_on_its_sample_is_loaded_and_not_quick(tmp_path: Path) -> None:
    index = models.install(tmp_path, models.reshape_model())

    _, measured = loading.load(tmp_path, index)

    assert measured == measuring.UNMEASURED


def test_a_check_that_does_not_pass_is_an_error(tmp_path: Path) -> None:
    bundles.write(tmp_path, passes=False)

    with pytest.raises(ModelError, match="output y differs"):
        loading.load(tmp_path, build(tmp_path).index)


def test_a_script_without_run_leaves_its_graph_in_this_process(tmp_path: Path) -> None:
    entry = "def source():\n    yield {}\n"
    index = models.install(tmp_path, models.mlp_model(), entry=entry)

    model, _ = loading.load(tmp_path, index)

    assert isinstance(model, Model)


def test_a_script_before_a_graph_calls_it_in_its_own_process(tmp_path: Path) -> None:
    entry = """
import numpy as np
def init(context):
    global predict
    predict = context.predict
def run(inputs):
    return {"y": predict({"x": inputs["x"] * np.float32(10)})["y"]}
"""
    index = models.install(tmp_path, models.linear_model(), entry=entry)
    plane = DataPlane()
    model, measured = loading.load(tmp_path, index)
    plane.add("m", "1", model, measured)

    assert isinstance(model, Isolated)
    assert ask(plane, {"x": np.ones((1, 4), np.float32)})["y"].tolist() == [[40, 40, 40]]
    plane.close()


def test_pickles_are_refused_unless_they_are_allowed(tmp_path: Path) -> None:
    scripts.write(tmp_path, yaml=scripts.SIGNATURE)
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04N.")
    index = build(tmp_path).index

    with pytest.raises(InvalidError, match="start the server with --allow pickle"):
        loading.load(tmp_path, index)
    model, _ = loading.load(tmp_path, index, ["pickle"])
    model.close()


def branches(directory: Path) -> DataPlane:
    write_bundle(directory / "left", factor=2.0)
    write_bundle(directory / "right", factor=10.0)
    (directory / "total").mkdir()
    (directory / "total" / "bundle.yaml").write_text(TOTAL)
    (directory / "total" / "score.py").write_text(SCRIPT)
    (directory / "bundle.yaml").write_text(BRANCHES + "  \n")
    plane = DataPlane()
    model, measured = loading.load(directory, build(directory).index)
    plane.add("m", "1", model, measured)
    return plane


def test_an_ensembles_branches_meet_in_a_script_of_another_process(tmp_path: Path) -> None:
    plane = branches(tmp_path)
    x = np.ones((2, WIDTH), np.float32)

    served = plane.find("m")
    assert (served.quick, served.platform, served.outputs.keys()) == (
        False,
        "ensemble",
        {"total", "left"},
    )
    given = ask(plane, {"x": x})
    assert given["total"].tolist() == [12 * WIDTH, 12 * WIDTH]
    with pytest.raises(ModelError, match=r"step total: total: its process ended \(exit code 4\)"):
        ask(plane, {"x": np.full((1, WIDTH), 6.5, np.float32)})
    assert ask(plane, {"x": x})["left"].tolist() == (2 * x).tolist()
    plane.close()


def test_an_ensemble_of_small_graphs_is_as_quick_as_it_is_measured(tmp_path: Path) -> None:
    write_bundle(tmp_path / "twice", factor=2.0)
    write_bundle(tmp_path / "ten", factor=10.0)
    steps = "[{name: ten, bundle: ten, inputs: {x: twice.y}}, {name: twice, bundle: twice}]"
    yaml = f"name: chain\nkind: ensemble\nensemble: {{steps: {steps}}}\n"
    (tmp_path / "bundle.yaml").write_text(yaml)
    model, measured = loading.load(tmp_path, build(tmp_path).index)
    plane = DataPlane()
    plane.add("m", "1", model, measured)
    x = np.ones((1, WIDTH), np.float32)

    assert model.inline
    assert ask(plane, {"x": x})["y"].tolist() == (20 * x).tolist()
    plane.close()


def test_batching_is_the_authors_to_ask_for(tmp_path: Path) -> None:
    plain = build(write_bundle(tmp_path / "plain"))
    built = build(write_bundle(tmp_path / "batched", yaml=BATCHED))

    assert plain.index.batching is None
    assert b"batching" not in plain.index_bytes
    assert bundle_index.decode(built.index_bytes).batching == Batching(8, 2.0)
    model, measured = loading.load(tmp_path / "batched", built.index)
    plane = DataPlane()
    plane.add("m", "1", model, measured)
    assert not plane.find("m").quick  # it may be held back, so it is not answered at once
    plane.close()


@pytest.mark.parametrize(
    ("batching", "says"),
    [
        ("{max_size: 1}", "batching.max_size: 1 is not accepted: give 2 to 4096"),
        ("{max_size: 5000}", "give 2 to 4096"),
        ("{max_size: 8, max_delay_ms: 1e6}", "batching.max_delay_ms"),
    ],
)
def test_batching_that_makes_no_sense_is_refused(tmp_path: Path, batching: str, says: str) -> None:
    yaml = f"name: scale\nkind: onnx\nmodel: model.onnx\nbatching: {batching}\n"

    with pytest.raises(InvalidError, match=says):
        build(write_bundle(tmp_path, yaml=yaml))


def test_batching_is_refused_where_rows_are_fixed(tmp_path: Path) -> None:
    models.write(tmp_path / "model.onnx", models.slow_model(8, rounds=1))
    (tmp_path / "bundle.yaml").write_text(BATCHED)

    with pytest.raises(InvalidError, match="first dimension of any size"):
        build(tmp_path)


def test_draining_waits_for_what_is_under_way() -> None:
    gate, plane = predictors.Gate(), DataPlane()
    plane.add("m", "1", gate)

    async def story() -> None:
        asked = asyncio.ensure_future(plane.run(plane.find("m"), {"x": np.ones(1, np.float32)}))
        await asyncio.to_thread(gate.begun.acquire)
        assert plane.ready
        assert not await plane.drain(0.05)
        assert not plane.ready
        gate.open.set()
        assert await plane.drain(20)
        await asked

    asyncio.run(story())
    plane.close()
