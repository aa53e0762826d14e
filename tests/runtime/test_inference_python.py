"""Kind python: a script alone makes the outputs."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.build import build
from runtime.errors import ModelError
from runtime.inference.check import run_check
from runtime.inference.model import Model
from tests.support import scripts
from tests.support.bundle_sources import write_bundle

X = {"x": np.ones((2, 4), np.float32)}


def load(directory: Path, **how: str) -> Model:
    scripts.write(directory, **how)  # type: ignore[arg-type]  # texts, all of them
    return Model.load(directory, build(directory).index)


def test_a_script_answers_and_passes_its_check(tmp_path: Path) -> None:
    model = load(tmp_path)

    assert model.predict(X)["y"].tolist() == [8.0, 8.0]
    assert model.output_names == ("y",)
    assert model.callers == 1
    assert run_check(model, tmp_path, build(tmp_path).index).ok


def test_outputs_become_what_the_signature_says(tmp_path: Path) -> None:
    model = load(tmp_path, script="def run(inputs): return {'y': [1, 2]}")

    assert model.predict(X)["y"].dtype == np.float32


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return {'z': [1.0, 2.0]}", "run gave outputs 'z': the signature has 'y'"),
        ("return {}", "run gave outputs none: the signature has 'y'"),
        ("return {'y': [1.0], 'z': 0}", "run gave outputs 'y', 'z'"),
        ("return {'y': [[1.0]]}", r"run gave y in shape \[1, 1\]: the signature has \[-1\]"),
        ("return {'y': 1.0}", r"run gave y in shape \[\]"),
        ("return {'y': ['a']}", r"run gave y as <U1\[1\]: the signature has FP32\[-1\]"),
        ("return {'y': [None]}", r"run gave y as object\[1\]"),
        ("return 1", "score.py: run gave int: return a dict by output name"),
        ("raise OSError('no such\\nfile')", "score.py: run raised OSError: no such file"),
    ],
)
def test_a_script_that_breaks_its_word_is_told_in_one_line(
    tmp_path: Path, body: str, says: str
) -> None:
    model = load(tmp_path, script=f"def run(inputs):\n    {body}")

    with pytest.raises(ModelError, match=says) as caught:
        model.predict(X)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("script", "says"),
    [
        ("x = 1", "score.py: run is not defined: the script has none"),
        ("def run(inputs): pass\nimport nowhere", "score.py: import raised ModuleNotFoundError"),
        ("def run(inputs)", "score.py: import raised SyntaxError"),
        ("def run(i): 0\ndef init(context): 1 / 0", "score.py: init raised ZeroDivisionError"),
        ("def run(i): 0\ndef init(c): c.predict({})", "load context.model in init"),
        ("def run(i): 0\ndef init(c): raise SystemExit(0)", "init raised SystemExit"),
    ],
)
def test_a_script_that_does_not_load_is_told_in_one_line(
    tmp_path: Path, script: str, says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        load(tmp_path, script=script)


def test_weights_that_the_index_does_not_list_are_not_loaded(tmp_path: Path) -> None:
    write_bundle(tmp_path, external="weights.bin")
    index = build(tmp_path).index
    model = (tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(model.replace(b"weights.bin", b"another.bin"))
    (tmp_path / "another.bin").write_bytes((tmp_path / "weights.bin").read_bytes())

    with pytest.raises(ModelError, match=r"needs another\.bin, which is not in the bundle"):
        Model.load(tmp_path, index)
    (tmp_path / "model.onnx").write_bytes(model.replace(b"weights.bin", b"/eights.bin"))
    with pytest.raises(ModelError, match="weights must lie beside the model"):
        Model.load(tmp_path, index)


def test_pickles_are_stopped_wherever_a_script_gets_them_from() -> None:
    """In a process of its own: what refuses them cannot be taken back."""
    code = """
import pickle, io
from fractions import Fraction
from runtime.errors import ModelError
from runtime.inference import pickles
plain, classy = pickle.dumps([1, 'a', {'b': 2.5}]), pickle.dumps(Fraction(1, 3))
pickle.loads(classy)
pickles.refuse('turn the switch')
pickles.refuse('turn it twice')
assert pickle.loads(plain) == [1, 'a', {'b': 2.5}]
for loads in (pickle.loads, lambda data: pickle._Unpickler(io.BytesIO(data)).load()):
    try:
        loads(classy)
    except ModelError as error:
        print(error)
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )

    told = "a pickle wants fractions.Fraction: pickles are refused; turn the switch\n"
    assert run.stdout == told * 2
