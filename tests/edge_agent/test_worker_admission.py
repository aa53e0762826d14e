"""What a device lets a bundle bring, in a real worker."""

import base64
import pickle
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import pytest

from edge_agent.worker import protocol
from runtime import files
from runtime.bundle.build import build
from tests.support import scripts, workers
from tests.support.workers import Module

PICKLED = pickle.dumps(Fraction(7, 2))
LOADING = """
import pickle
import numpy as np

def init(context):
    global factor
    factor = pickle.loads((context.directory / "factor.bin").read_bytes())

def run(inputs):
    return {"y": inputs["x"].sum(axis=1) * np.float32(factor)}
"""
HIDING = LOADING.replace(
    '(context.directory / "factor.bin").read_bytes()',
    f"__import__('base64').b64decode({base64.b64encode(PICKLED).decode()!r})",
)
X = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Module]:
    with workers.module(tmp_path) as module:
        yield module


def lay_out(directory: Path, script: str = scripts.SCRIPT) -> None:
    """Lay a bundle out as a device does, with a pickle beside the script."""
    scripts.write(directory, script=script, factor=3.5)
    (directory / "factor.bin").write_bytes(PICKLED)
    files.write_atomic(directory / ".index.json", build(directory).index_bytes)


def refusal(module: Module, *allow: str) -> str:
    worker = module.start(allow=allow)
    try:
        said = worker.expect(protocol.Failed)
        assert worker.end() == 1
        return said.text
    finally:
        worker.close()


def answer(module: Module, *allow: str) -> list[float]:
    with workers.running(module.start(allow=allow)) as worker:
        worker.send(protocol.RunCheck())
        assert worker.expect(protocol.Checked).ok
        worker.send(protocol.Accept())
        worker.expect(protocol.Accepting)
        client = module.connect()
        status, said = client.ask("POST", "/v2/models/mod/infer", {"inputs": [X]})
        client.close()
        assert status == 200, said
        values: list[float] = said["outputs"][0]["data"]
        return values


def test_a_pickle_is_refused_by_default_and_its_switch_is_named(module: Module) -> None:
    lay_out(module.directory, LOADING)

    text = refusal(module, "entry-script")

    assert text.startswith("files[factor.bin]: 'pickle' is not accepted")
    assert 'put allow = ["pickle"] into this device\'s agent.toml' in text


def test_a_device_that_allows_pickles_runs_them(module: Module) -> None:
    lay_out(module.directory, LOADING)

    assert answer(module, "pickle") == [35.0]


def test_a_pickle_that_hides_is_stopped_where_it_is_loaded(module: Module) -> None:
    lay_out(module.directory, HIDING)
    (module.directory / "factor.bin").unlink()
    files.write_atomic(module.directory / ".index.json", build(module.directory).index_bytes)

    text = refusal(module, "entry-script")

    assert "a pickle wants fractions.Fraction: pickles are refused" in text
    assert 'allow = ["pickle"]' in text


def test_a_device_may_refuse_scripts_too(module: Module) -> None:
    lay_out(module.directory)

    assert "files[score.py]: 'entry-script' is not accepted" in refusal(module)


def test_a_script_serves_and_leaves_nothing_among_the_bundles_files(module: Module) -> None:
    lay_out(module.directory)
    (module.directory / "factor.bin").unlink()
    files.write_atomic(module.directory / ".index.json", build(module.directory).index_bytes)
    before = sorted(module.directory.rglob("*"))

    assert answer(module, "entry-script") == [35.0]
    assert sorted(module.directory.rglob("*")) == before
