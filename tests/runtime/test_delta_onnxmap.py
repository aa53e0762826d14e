import random

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle import protobuf
from runtime.bundle.delta import onnxmap
from runtime.bundle.delta.onnxmap import OnnxMap
from runtime.bundle.delta.plan import ElementType, TensorExtent
from tests.support import delta_graphs


def read(data: bytes) -> OnnxMap:
    found = onnxmap.read(memoryview(data))
    assert found is not None
    return found


def model(*nodes: object, initializers: tuple[TensorProto, ...] = ()) -> bytes:
    graph = helper.make_graph(nodes, "g", [], [], list(initializers))
    return helper.make_model(graph).SerializeToString()


def content(data: bytes, extent: TensorExtent) -> bytes:
    return data[extent.offset : extent.offset + extent.length]


def test_every_initializer_is_found_where_its_bytes_lie() -> None:
    layers = delta_graphs.weights()
    data = delta_graphs.onnx_file(layers)

    found = read(data).inside

    assert [extent.name for extent in found] == list(layers)
    assert [extent.shape for extent in found] == [array.shape for array in layers.values()]
    assert [content(data, each) for each in found] == [a.tobytes() for a in layers.values()]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (TensorProto.FLOAT16, ElementType.FP16),
        (TensorProto.BFLOAT16, ElementType.BF16),
        (TensorProto.DOUBLE, ElementType.FP64),
        (TensorProto.UINT8, ElementType.INT8),
        (TensorProto.INT64, ElementType.INT64),
        (TensorProto.BOOL, ElementType.BYTES),
    ],
)
def test_a_tensor_has_the_type_that_its_code_says(code: int, kind: ElementType) -> None:
    raw = bytes(range(3 * kind.width))
    data = model(initializers=(helper.make_tensor("t", code, [3], raw, raw=True),))

    (found,) = read(data).inside

    assert (found.type, found.shape, content(data, found)) == (kind, (3,), raw)


def test_floats_in_a_packed_field_are_found_as_well() -> None:
    data = model(initializers=(helper.make_tensor("t", TensorProto.FLOAT, [3], [1, 2, 3]),))

    (found,) = read(data).inside

    assert np.frombuffer(content(data, found), "<f4").tolist() == [1, 2, 3]


def test_four_bit_and_complex_tensors_are_rows_of_what_their_bytes_are() -> None:
    four = helper.make_tensor("four", TensorProto.INT4, [4], b"\x12\x34", raw=True)
    turned = numpy_helper.from_array(np.ones(3, np.complex64), "turned")

    found = read(model(initializers=(four, turned))).inside

    assert [(each.type, each.shape) for each in found] == [
        (ElementType.BYTES, (2,)),
        (ElementType.FP32, (6,)),
    ]


def test_constants_and_tensors_of_inner_graphs_are_found() -> None:
    inner = helper.make_graph(
        [], "inner", [], [], [numpy_helper.from_array(np.ones(2, np.float32), "w")]
    )
    constant = numpy_helper.from_array(np.zeros(4, np.float32), "value")
    data = model(
        helper.make_node("Constant", [], ["c"], value=constant),
        helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner),
    )

    names = [extent.name for extent in read(data).inside]

    assert sorted(names) == ["c/value/value", "y/else_branch/w", "y/then_branch/w"]


def test_two_tensors_of_one_name_are_told_apart() -> None:
    tensor = numpy_helper.from_array(np.ones(2, np.float32), "w")

    found = read(model(initializers=(tensor, tensor))).inside

    assert [extent.name for extent in found] == ["w", "w#2"]


def test_external_data_is_listed_by_file() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2, 3], data_location=1)
    for key, value in (("location", "weights.bin"), ("offset", "4096"), ("length", "24")):
        tensor.external_data.add(key=key, value=value)

    found = read(model(initializers=(tensor,)))

    assert found.inside == ()
    assert found.outside == {
        "weights.bin": (TensorExtent("w", ElementType.FP32, (2, 3), 4096, 24),)
    }


def test_external_data_without_a_length_is_as_long_as_its_shape() -> None:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT16, dims=[5], data_location=1)
    tensor.external_data.add(key="location", value="w.bin")

    assert read(model(initializers=(tensor,))).outside["w.bin"][0].length == 10


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a graph",
        b"\x08\x07" * 50,
        b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\x08\x07\x3a\x04\x0a\xff\xff\x7f",
        b"\xff" * 100,
    ],
    ids=["empty", "text", "no graph", "endless", "cut short", "no end of a number"],
)
def test_what_is_no_onnx_file_is_plain_bytes(data: bytes) -> None:
    assert onnxmap.read(memoryview(data)) is None


def test_graphs_within_graphs_without_end_are_plain_bytes() -> None:
    nested = b""
    for _ in range(500):
        attribute = b"\x32" + _length(nested) + nested  # AttributeProto.g
        node = b"\x2a" + _length(attribute) + attribute
        nested = b"\x0a" + _length(node) + node
    data = b"\x08\x07\x3a" + _length(nested) + nested

    assert onnxmap.read(memoryview(data)) is None


def test_more_fields_than_any_graph_has_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf.Walker.__init__, "__defaults__", (50,))
    data = delta_graphs.onnx_file(delta_graphs.weights())

    assert onnxmap.read(memoryview(data)) is None


def test_no_damage_makes_it_fail_or_point_outside_the_file() -> None:
    rng = random.Random(5)
    whole = delta_graphs.onnx_file(delta_graphs.weights(width=8))
    for _ in range(300):
        data = bytearray(whole[: rng.randrange(1, len(whole) + 1)])
        for _ in range(rng.randrange(6)):
            data[rng.randrange(len(data))] = rng.randrange(256)

        found = onnxmap.read(memoryview(bytes(data))) or OnnxMap((), {})

        assert all(0 <= e.offset <= e.offset + e.length <= len(data) for e in found.inside)


def _length(data: bytes) -> bytes:
    size, out = len(data), bytearray()
    while size > 127:
        out.append(size & 127 | 128)
        size >>= 7
    return bytes([*out, size])
