from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle import onnxfile
from runtime.errors import InvalidError
from tests.support import models
from tests.support.bundle_sources import write_model


def external(name: str, location: str) -> TensorProto:
    """Return a tensor whose bytes lie elsewhere."""
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return tensor


def saved(tmp_path: Path, *tensors: TensorProto, nodes: tuple[object, ...] = ()) -> Path:
    graph = helper.make_graph(list(nodes), "g", [], [], list(tensors))
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph).SerializeToString())
    return path


def test_a_model_of_one_file_needs_no_other(tmp_path: Path) -> None:
    assert onnxfile.locations(models.write(tmp_path / "m.onnx", models.mlp_model())) == ()


def test_every_file_is_named_once(tmp_path: Path) -> None:
    path = saved(tmp_path, external("a", "w.bin"), external("b", "w.bin"), external("c", "x/v.bin"))

    assert onnxfile.locations(path) == ("w.bin", "x/v.bin")


def test_paths_are_those_in_the_bundle(tmp_path: Path) -> None:
    write_model(tmp_path / "model.onnx", external="weights.bin")

    assert onnxfile.external_data(tmp_path / "model.onnx", "sub/model.onnx") == ("sub/weights.bin",)


def test_tensors_within_subgraphs_attributes_and_functions_are_seen(tmp_path: Path) -> None:
    inner = helper.make_graph([], "inner", [], [], [external("deep", "subgraph.bin")])
    constant = helper.make_node("Constant", [], ["c"], value=external("v", "attribute.bin"))
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    path = saved(tmp_path, nodes=(constant, branch))
    model = onnx.load(path, load_external_data=False)
    called = helper.make_node("Constant", [], ["f"], value=external("f", "function.bin"))
    model.functions.append(
        helper.make_function("d", "f", [], ["f"], [called], [helper.make_opsetid("", 17)])
    )
    path.write_bytes(model.SerializeToString())

    assert onnxfile.locations(path) == ("attribute.bin", "function.bin", "subgraph.bin")


@pytest.mark.parametrize(
    "location", ["../w.bin", "a/../../w.bin", "/etc/passwd", "", ".", "a\\w.bin", "a/.."]
)
def test_a_location_outside_is_refused(tmp_path: Path, location: str) -> None:
    path = saved(tmp_path, external("a", location))

    with pytest.raises(InvalidError, match="weights must lie beside the model or below"):
        onnxfile.external_data(path, "model.onnx")


def test_a_model_that_names_too_many_files_is_refused(tmp_path: Path) -> None:
    many = (external("a", f"{number}.bin") for number in range(onnxfile.MAX_LOCATIONS + 1))

    with pytest.raises(InvalidError, match="more than 10000 files"):
        onnxfile.locations(saved(tmp_path, *many))


@pytest.mark.parametrize("kept", [0, 1, 7, 40, -3])
def test_what_is_no_onnx_names_nothing(tmp_path: Path, kept: int) -> None:
    path = saved(tmp_path, external("a", "w.bin"))
    path.write_bytes(path.read_bytes()[:kept])

    assert onnxfile.locations(path) == ()


def test_random_bytes_end_in_an_answer(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / "noise"
    for _ in range(300):
        path.write_bytes(rng.bytes(200))
        assert onnxfile.locations(path) == ()


def test_graphs_that_nest_without_end_are_refused(tmp_path: Path) -> None:
    def nested(field: int, body: bytes) -> bytes:
        length, size = len(body), b""
        while length > 0x7F:
            size += bytes([length & 0x7F | 0x80])
            length >>= 7
        return bytes([field << 3 | 2]) + size + bytes([length]) + body

    body = b""
    for _ in range(onnxfile.MAX_DEPTH + 2):
        body = nested(1, nested(5, nested(6, body)))
    (tmp_path / "m").write_bytes(nested(7, body))

    with pytest.raises(InvalidError, match="nest deeper"):
        onnxfile.locations(tmp_path / "m")
