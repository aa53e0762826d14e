import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle import build, index
from runtime.bundle.index import Uses
from runtime.digests import Digest
from runtime.errors import InvalidError, ModelError
from runtime.inference.check import run_check
from runtime.inference.ensemble import Ensemble
from runtime.inference.model import Model
from runtime.inference.tensors import Arrays
from tests.support.bundle_sources import WIDTH, write_bundle
from tests.support.predictors import Echo

TWICE_AND_TEN_TIMES = """
name: both
kind: ensemble
ensemble:
  steps:
    - {name: ten, bundle: ten, inputs: {x: twice.y}}
    - {name: twice, bundle: twice}
"""
X = np.arange(2 * WIDTH, dtype=np.float32).reshape(2, WIDTH)
SCRIPT = "def run(inputs):\n    return {'total': inputs['y'].sum(axis=1)}\n"
PYTHON_STEP = """
name: total
kind: python
entry: score.py
signature:
  inputs: [{name: y, datatype: FP32, shape: [-1, 4]}]
  outputs: [{name: total, datatype: FP32, shape: [-1]}]
"""


def write_ensemble(directory: Path, yaml: str = TWICE_AND_TEN_TIMES) -> Path:
    write_bundle(directory / "twice", factor=2.0)
    write_bundle(directory / "ten", factor=10.0, external="weights.bin")
    (directory / "bundle.yaml").write_text(yaml)
    return directory


def test_outputs_of_one_model_feed_the_next(tmp_path: Path) -> None:
    built = build.build(write_ensemble(tmp_path))

    model = Model.load(tmp_path, built.index)

    assert [spec.name for spec in model.signature.inputs] == ["x"]
    assert model.predict({"x": X})["y"].tolist() == (X * 20).tolist()
    assert index.decode(built.index_bytes) == built.index


def test_a_script_can_be_a_step(tmp_path: Path) -> None:
    step = "    - {name: total, bundle: total, inputs: {y: ten.y}}\n"
    write_ensemble(tmp_path, TWICE_AND_TEN_TIMES + step)
    (tmp_path / "total").mkdir()
    (tmp_path / "total/bundle.yaml").write_text(PYTHON_STEP)
    (tmp_path / "total/score.py").write_text(SCRIPT)

    model = Model.load(tmp_path, build.build(tmp_path).index)

    assert model.predict({"x": X})["total"].tolist() == (X * 20).sum(axis=1).tolist()
    assert model.callers == 1


def test_an_ensembles_own_check_runs(tmp_path: Path) -> None:
    check = "check: {inputs: in.npz, outputs: out.npz}\n"
    write_ensemble(tmp_path, TWICE_AND_TEN_TIMES + check)
    np.savez(tmp_path / "in.npz", x=X)
    np.savez(tmp_path / "out.npz", y=X * 20)
    built = build.build(tmp_path)

    assert run_check(Model.load(tmp_path, built.index), tmp_path, built.index).ok


def test_a_step_that_was_registered_is_noted(tmp_path: Path) -> None:
    yaml = TWICE_AND_TEN_TIMES.replace("bundle: twice", 'use: "twice:3"')
    write_ensemble(tmp_path, yaml)
    (tmp_path / "steps").mkdir()
    (tmp_path / "twice").rename(tmp_path / "steps/twice")
    uses = Uses("twice", 3, Digest("a" * 64))

    assert build.build(tmp_path, {"twice": uses}).index.uses == (uses,)


@pytest.mark.parametrize(
    ("yaml", "field", "fix"),
    [
        (
            TWICE_AND_TEN_TIMES.replace("twice.y", "twice.z"),
            r"ensemble\.steps\[ten\]\.inputs\.x",
            "step twice gives y",
        ),
        (
            TWICE_AND_TEN_TIMES.replace("bundle: ten", "bundle: eleven"),
            r"ensemble\.steps\[ten\]",
            "there is no bundle at eleven",
        ),
        (
            TWICE_AND_TEN_TIMES.replace("bundle: ten", 'use: "ten:1"'),
            r"ensemble\.steps\[ten\]",
            "`packhorse models push` fetches it",
        ),
        (
            TWICE_AND_TEN_TIMES.replace("bundle: ten", "use: ten"),
            r"ensemble\.steps\[0\]\.use",
            "write NAME:VERSION",
        ),
        (TWICE_AND_TEN_TIMES + "entry: score.py\n", "entry", "leave it out"),
        (TWICE_AND_TEN_TIMES.replace("kind: ensemble", "kind: onnx"), "model", "write model"),
    ],
)
def test_what_an_ensemble_cannot_be_is_told(
    tmp_path: Path, yaml: str, field: str, fix: str
) -> None:
    with pytest.raises(InvalidError, match=f"^{field}: .*{fix}"):
        build.build(write_ensemble(tmp_path, yaml))


def test_an_ensemble_of_ensembles_is_refused(tmp_path: Path) -> None:
    outer = "name: outer\nkind: ensemble\nensemble: {steps: [{name: a, bundle: inner}]}\n"
    write_ensemble(tmp_path / "inner")
    (tmp_path / "bundle.yaml").write_text(outer)

    with pytest.raises(InvalidError, match="list its steps here"):
        build.build(tmp_path)


def test_outputs_may_be_listed_in_any_order(tmp_path: Path) -> None:
    yaml = TWICE_AND_TEN_TIMES + "  outputs: {z: ten.y, a: twice.y}\n"

    built = build.build(write_ensemble(tmp_path, yaml))

    given = Model.load(tmp_path, built.index).predict({"x": X})
    assert {name: array.tolist() for name, array in given.items()} == {
        "z": (X * 20).tolist(),
        "a": (X * 2).tolist(),
    }


def test_a_step_that_fails_is_named(tmp_path: Path) -> None:
    built = build.build(write_ensemble(tmp_path))
    (tmp_path / "ten/weights.bin").unlink()

    with pytest.raises(ModelError, match="step ten: "):
        Model.load(tmp_path, built.index)


def test_steps_of_one_level_run_side_by_side() -> None:
    """Each waits for the other: one after the other they would wait for ever."""
    meeting = threading.Barrier(2, timeout=20)

    class Meet(Echo):
        signature = index.Signature((SPEC,), (OUT,))

        def predict(self, inputs: Arrays, outputs: Sequence[str] | None = None) -> Arrays:
            assert (list(inputs), outputs) == (["x"], None)
            meeting.wait()
            return {"y": X}

    yaml_wiring = build.ensemble.wire(
        [
            build.ensemble.Node(name, {}, index.Signature((SPEC,), (OUT,)))
            for name in ("left", "right")
        ],
        {"l": "left.y", "r": "right.y"},
    )

    given = Ensemble(yaml_wiring, {"left": Meet(), "right": Meet()}).run({"x": X})

    assert set(given) == {"l", "r"}


SPEC = index.TensorSpec("x", "FP32", (-1, WIDTH))
OUT = index.TensorSpec("y", "FP32", (-1, WIDTH))
