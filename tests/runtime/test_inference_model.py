import io
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from runtime.bundle.index import Check, TensorSpec
from runtime.errors import InvalidError, ModelError
from runtime.inference.check import run_check
from runtime.inference.model import Model
from tests.support import models

X = {"x": np.ones((1, 4), np.float32)}

SCRIPT = """
import json
from helper import OFFSET

def init(context):
    global predict, names
    predict, names = context.predict, json.loads((context.directory / "names.json").read_text())

def run(inputs):
    y = predict({"x": inputs["x"] + OFFSET})["y"]
    return {"y": y, "name": [names[int(y[0, 0]) % len(names)]]}
"""
SCRIPT_FILES = {"helper.py": b"OFFSET = 1.0\n", "names.json": b'["odd", "even"]'}


def npz(**arrays: Any) -> bytes:
    """The bytes of a .npz file."""
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def test_a_model_answers(tmp_path: Path) -> None:
    model = Model.load(tmp_path, models.install(tmp_path, models.linear_model()))

    assert model.predict(X)["y"].tolist() == [[4, 4, 4]]


def test_an_entry_script_stands_before_and_behind_the_model(tmp_path: Path) -> None:
    index = models.install(tmp_path, models.linear_model(), entry=SCRIPT, extra=SCRIPT_FILES)
    model = Model.load(tmp_path, index)

    outputs = model.predict(X)

    assert outputs["y"].tolist() == [[8, 8, 8]]
    assert outputs["name"].tolist() == ["odd"]
    assert list(model.predict(X, ["name"])) == ["name"]
    assert model.callers == 1
    with pytest.raises(InvalidError, match="'absent'"):
        model.predict(X, ["absent"])


@pytest.mark.parametrize(
    ("script", "text"),
    [
        ("import no_such_module_here", "entry.py: import raised ModuleNotFoundError"),
        ("def init(context): return 1 / 0", "entry.py: init raised ZeroDivisionError"),
        ("import sys\nsys.exit(3)", "entry.py: import raised SystemExit"),
        ("def run(:", "entry.py: import raised SyntaxError"),
    ],
)
def test_a_script_that_does_not_load_is_told_in_one_line(
    tmp_path: Path, script: str, text: str
) -> None:
    index = models.install(tmp_path, models.linear_model(), entry=script)

    with pytest.raises(ModelError, match=text) as caught:
        Model.load(tmp_path, index)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ("raise KeyError('k')", "entry.py: run raised KeyError: 'k'"),
        ("return [1]", "entry.py: run gave list"),
        ("return {'y': 1j}", "output y is complex128"),
        ("raise MemoryError", "out of memory|MemoryError"),
    ],
)
def test_a_script_that_fails_on_an_input_is_told_in_one_line(
    tmp_path: Path, body: str, text: str
) -> None:
    index = models.install(tmp_path, models.linear_model(), entry=f"def run(inputs): {body}")

    with pytest.raises(ModelError, match=text):
        Model.load(tmp_path, index).predict(X)


def test_another_model_than_the_registered_one_is_refused(tmp_path: Path) -> None:
    index = models.install(tmp_path, models.linear_model())
    models.write(tmp_path / "model.onnx", models.mlp_model())

    with pytest.raises(ModelError, match="not the model that was registered"):
        Model.load(tmp_path, index)


def test_output_sizes_that_only_one_side_knows_are_no_difference(tmp_path: Path) -> None:
    """Versions of onnxruntime infer more or fewer of them."""
    index = models.install(tmp_path, models.linear_model())
    known = msgspec.structs.replace(index.signature, outputs=(TensorSpec("y", "FP32", (-1, -1)),))

    Model.load(tmp_path, msgspec.structs.replace(index, signature=known))


def check(tmp_path: Path, **settings: Any) -> tuple[bool, str]:
    """Run a check of a linear model with these golden files and settings."""
    golden = settings.pop("outputs", npz(y=np.full((1, 3), 4, np.float32)))
    index = models.install(
        tmp_path,
        models.linear_model(),
        extra={"in.npz": settings.pop("inputs", npz(**X)), "out.npz": golden},
        check=Check(inputs="in.npz", outputs="out.npz", **settings),
    )
    result = run_check(Model.load(tmp_path, index), tmp_path, index)
    return result.ok, result.text


def test_a_check_that_gives_its_golden_outputs_passes_and_tells_the_latency(
    tmp_path: Path,
) -> None:
    ok, text = check(tmp_path, p95_ms=10_000.0)

    assert (ok, text[:7]) == (True, "p95 is ")


def test_a_check_with_other_outputs_fails_and_names_the_value(tmp_path: Path) -> None:
    wanted = np.array([[4, 4.5, 4]], np.float32)

    ok, text = check(tmp_path, outputs=npz(y=wanted))

    assert not ok
    assert "output y differs in 1 of 3 values: at [0, 1] it is 4.0, wanted 4.5" in text


def test_a_check_tolerates_what_it_says(tmp_path: Path) -> None:
    assert check(tmp_path, outputs=npz(y=np.full((1, 3), 4.3, np.float32)), rtol=0.1)[0]


def test_a_check_that_is_too_slow_here_fails(tmp_path: Path) -> None:
    ok, text = check(tmp_path, p95_ms=1e-9)

    assert not ok
    assert "above check.p95_ms" in text


def test_a_check_that_needs_too_much_memory_here_fails_before_traffic(tmp_path: Path) -> None:
    ok, text = check(tmp_path, memory_mb=1)

    assert not ok
    assert "above check.memory_mb of 1 MiB" in text


def test_a_check_tells_the_memory_that_it_was_asked_to_watch(tmp_path: Path) -> None:
    ok, text = check(tmp_path, memory_mb=100_000)

    assert ok
    assert "memory is" in text


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"outputs": npz(z=np.zeros(3))}, "no output z"),
        ({"outputs": npz(y=np.zeros((2, 3)))}, r"shape \[1, 3\], wanted \[2, 3\]"),
        ({"inputs": npz(q=np.zeros(3))}, "'q'"),
        ({"inputs": b"no zip"}, "in.npz"),
        ({"inputs": npz(x=np.array([{}], dtype=object))}, "in.npz"),
    ],
)
def test_a_check_that_cannot_be_made_fails_and_says_why(
    tmp_path: Path, settings: dict[str, Any], text: str
) -> None:
    ok, told = check(tmp_path, **settings)

    assert not ok
    assert re.search(text, told)


def test_labels_are_compared_exactly(tmp_path: Path) -> None:
    golden = npz(label=np.array(["cat"]))
    index = models.install(
        tmp_path,
        models.classifier_model(),
        extra={"in.npz": npz(x=np.array([[0, 1, 0]], np.float32)), "out.npz": golden},
        check=Check(inputs="in.npz", outputs="out.npz"),
    )

    result = run_check(Model.load(tmp_path, index), tmp_path, index)

    assert not result.ok
    assert "it is dog, wanted cat" in result.text


def test_a_bundle_without_a_check_passes(tmp_path: Path) -> None:
    index = models.install(tmp_path, models.linear_model())

    assert run_check(Model.load(tmp_path, index), tmp_path, index).ok
