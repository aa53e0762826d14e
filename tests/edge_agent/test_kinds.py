"""Kinds of bundles on a real agent: fetched, laid out, checked, answering, refused."""

import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle.build import build
from runtime.bundle.index import FileEntry
from runtime.messages import Phase
from tests.support import agents, scripts
from tests.support.agents import Device

ROW = [1.0, 2.0, 3.0, 4.0]
FILES = ("a.bin", "weights/b.bin", "weights/deep/c.bin")


@pytest.fixture
def device() -> Iterator[Device]:
    with agents.device() as device:
        yield device


def spread(directory: Path) -> None:
    """Replace a bundle's model by one that does the same with weights in several files."""
    shares = {f"w{place}": np.full(4, 2.0, np.float32) for place in range(4)}
    sizes = [f"x{place}" for place in range(5)]
    nodes = [helper.make_node("Mul", [a, w], [b]) for a, w, b in zip(sizes, shares, sizes[1:])]  # noqa: B905 - one fewer
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [*nodes, helper.make_node("Div", ["x4", "eight"], ["y"])],
        "spread",
        [value("x0", TensorProto.FLOAT, ["n", 4])],
        [value("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(each, name) for name, each in shares.items()]
        + [numpy_helper.from_array(np.float32(8), "eight")],
    )
    graph.input[0].name = "x"
    graph.node[0].input[0] = "x"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    for tensor, path in zip(model.graph.initializer, (*FILES, FILES[0]), strict=False):
        place = directory / path
        place.parent.mkdir(parents=True, exist_ok=True)
        offset = place.stat().st_size if place.exists() else 0
        with place.open("ab") as file:
            file.write(tensor.raw_data)
        onnx.external_data_helper.set_external_data(tensor, path, offset, len(tensor.raw_data))
        tensor.ClearField("raw_data")
    (directory / "model.onnx").write_bytes(model.SerializeToString())


def test_weights_in_several_files_and_directories_are_fetched_as_links_and_run(
    device: Device,
) -> None:
    bundle = device.bundle("spread", factor=2.0, change=spread)
    device.start()
    device.want(bundle)
    device.until_running(bundle)

    assert device.infer(ROW) == [2.0, 4.0, 6.0, 8.0]
    built = build(bundle)
    listed = {entry.path: entry for entry in built.index.files}
    assert set(FILES) < set(listed)
    place = device.data / "bundles" / built.digest
    assert all((place / path).samefile(_blob(device, listed[path])) for path in FILES)


def _blob(device: Device, entry: FileEntry) -> Path:
    (found,) = (device.data / "blobs").rglob(entry.sha256)
    return found


def scripted(directory: Path) -> None:
    """Replace a bundle by one of kind python, with a wheel of its own that it imports."""
    shutil.rmtree(directory)
    using = scripts.SCRIPT.replace("import json", "import json\nimport ph_wheel")
    scripts.write(
        directory,
        script=using.replace('["factor"]', '["factor"] * ph_wheel.UNIT'),
        factor=2.0,
        yaml=scripts.SIGNATURE + scripts.CHECK + "requirements: requirements.txt\n",
    )
    (directory / "requirements.txt").write_text("numpy\nph-wheel==1.0\n")
    scripts.wheel(directory / "wheels", {"ph_wheel.py": "UNIT = 1"}, name="ph_wheel")


def lacking(directory: Path) -> None:
    """The same, without the wheel."""
    scripted(directory)
    shutil.rmtree(directory / "wheels")


def pickled(directory: Path) -> None:
    """The same, with a pickle that nobody has named so."""
    scripted(directory)
    (directory / "weights.dat").write_bytes(pickle.dumps(Path))


def test_a_script_with_a_wheel_runs_and_goes_without_a_trace(device: Device) -> None:
    bundle = device.bundle("script", change=scripted)
    device.start()
    device.want(bundle)
    device.until_running(bundle)
    place = device.data / "bundles" / build(bundle).digest

    assert device.infer(ROW) == [20.0]
    assert (place / ".wheels" / "ph_wheel-1.0-py3-none-any" / "ph_wheel.py").exists()
    device.want_all()
    device.until(lambda: not place.exists(), "the bundle is collected")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lacking, "lacks ph-wheel==1.0 (there is none)"),
        (pickled, 'put allow = ["pickle"] into this device\'s agent.toml'),
    ],
)
def test_what_cannot_run_here_is_refused_with_its_reason_and_the_version_before_runs_on(
    device: Device, change: Callable[[Path], None], says: str
) -> None:
    good, bad = device.bundle("good", change=scripted), device.bundle("bad", change=change)
    device.start()
    device.want(good)
    device.until_running(good)
    device.want(bad)
    device.until(lambda: device.module().phase is Phase.FAILED, "it is refused")

    assert says in device.module().reason
    assert device.infer(ROW) == [20.0]
