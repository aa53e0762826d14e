from collections.abc import Mapping
from typing import Any, get_args

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtime.bundle.index import DataType, TensorSpec
from runtime.errors import InvalidError, ModelError
from runtime.inference import raw, tensors
from runtime.inference.tensors import Array, Arrays
from runtime.serving.protos.open_inference_pb2 import (
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)
from runtime.serving.rpc import codec, infer

DATATYPES: tuple[DataType, ...] = get_args(DataType)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
TENSORS = st.one_of(
    [
        hnp.arrays(tensors.DTYPES[name], SHAPES, elements=TEXT if name == "BYTES" else None)
        for name in DATATYPES
    ]
)


def anything(name: str, array: Array) -> TensorSpec:
    """A spec that takes arrays of this type and as many dimensions."""
    return TensorSpec(name, tensors.datatype_of(name, array), (-1,) * array.ndim)


def spec(datatype: DataType = "FP32", shape: tuple[int, ...] = (-1, 2)) -> Mapping[str, TensorSpec]:
    return {"x": TensorSpec("x", datatype, shape)}


def request(
    contents: bytes | None = None,
    *,
    shape: tuple[int, ...] = (1, 2),
    datatype: str = "FP32",
    name: str = "x",
    **typed: Any,
) -> ModelInferRequest:
    message = ModelInferRequest(model_name="m")
    message.inputs.add(name=name, datatype=datatype, shape=shape)
    if typed:
        message.inputs[0].contents.CopyFrom(InferTensorContents(**typed))
    if contents is not None:
        message.raw_input_contents.append(contents)
    return message


def as_inputs(answer: ModelInferResponse) -> ModelInferRequest:
    """What a client would send to give the outputs of an answer back as inputs."""
    message = ModelInferRequest(raw_input_contents=answer.raw_output_contents)
    for output in answer.outputs:
        tensor = message.inputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
        if output.HasField("contents"):
            tensor.contents.CopyFrom(output.contents)
    return ModelInferRequest.FromString(message.SerializeToString())


@settings(max_examples=200)
@given(arrays=st.lists(TENSORS, min_size=1, max_size=3), as_raw=st.booleans())
def test_what_goes_out_comes_in_again(arrays: list[Array], *, as_raw: bool) -> None:
    outputs: Arrays = {f"t{n}": array for n, array in enumerate(arrays)}
    asked = request(b"") if as_raw else request()

    answer = codec.encode("m", "1", asked, outputs)
    back = codec.decode(as_inputs(answer), {n: anything(n, a) for n, a in outputs.items()})

    for name, array in outputs.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_the_answer_has_the_form_of_the_request(datatype: DataType) -> None:
    output = {"y": np.array(["0", "1"]).astype(tensors.DTYPES[datatype])}
    typed = codec.encode("m", "1", request(), output)
    as_raw = codec.encode("m", "1", request(b""), output)

    assert len(as_raw.raw_output_contents) == 1
    assert len(typed.raw_output_contents) == (1 if datatype == "FP16" else 0)
    assert not as_raw.outputs[0].HasField("contents")


def test_an_answer_names_the_model_and_the_request() -> None:
    asked = request(b"")
    asked.id = "mine"

    answer = codec.encode("m", "7", asked, {"y": np.zeros((2, 1), np.int8)})

    assert (answer.model_name, answer.model_version, answer.id) == ("m", "7", "mine")
    assert [(o.name, o.datatype, list(o.shape)) for o in answer.outputs] == [("y", "INT8", [2, 1])]


def test_an_output_that_the_protocol_does_not_know_is_the_models_fault() -> None:
    with pytest.raises(ModelError, match="complex"):
        codec.encode("m", "1", request(), {"y": np.zeros(2, np.complex64)})
    for asked in (request(), request(b"")):
        with pytest.raises(ModelError, match="holds 7"):
            codec.encode("m", "1", asked, {"y": np.array([7], np.object_)})


def test_both_of_two_inputs_are_needed_once_each() -> None:
    specs = {name: TensorSpec(name, "FP32", (-1,)) for name in ("a", "b")}
    twice = ModelInferRequest(raw_input_contents=[b"", b""])
    for _ in range(2):
        twice.inputs.add(name="a", datatype="FP32", shape=[0])
    one = ModelInferRequest(raw_input_contents=[b""])
    one.inputs.add(name="b", datatype="FP32", shape=[0])

    with pytest.raises(InvalidError, match=r"'a'.*once"):
        codec.decode(twice, specs)
    with pytest.raises(InvalidError, match=r"'a'.*too"):
        codec.decode(one, specs)
    with pytest.raises(InvalidError, match=r"'a', 'b'.*too"):
        codec.decode(ModelInferRequest(), specs)


EIGHT = bytes(8)


@pytest.mark.parametrize(
    ("asked", "specs", "field"),
    [
        (request(EIGHT, name="z"), spec(), "inputs"),
        (request(EIGHT, datatype="FP64"), spec(), "inputs[x].datatype"),
        (request(EIGHT, datatype=""), spec(), "inputs[x].datatype"),
        (request(EIGHT, shape=(2,)), spec(), "inputs[x].shape"),
        (request(EIGHT, shape=(1, 3)), spec(), "inputs[x].shape"),
        (request(EIGHT, shape=(-1, 2)), spec(), "inputs[x].shape"),
        (request(EIGHT[:7]), spec(), "inputs[x]"),
        (request(EIGHT + EIGHT), spec(), "inputs[x]"),
        (request(b""), spec(), "inputs[x]"),
        (request(EIGHT, shape=(2**40, 2)), spec(), "inputs[x].shape"),
        (request(b"", shape=(0, 2**62)), spec(shape=(-1, -1)), "inputs[x].shape"),
        (request(b"\0\2", datatype="BOOL"), spec("BOOL"), "inputs[x]"),
        (request(EIGHT, fp32_contents=[1, 2]), spec(), "inputs[x].contents"),
        (request(), spec(), "inputs[x].contents.fp32_contents"),
        (request(fp32_contents=[1]), spec(), "inputs[x].contents.fp32_contents"),
        (request(fp32_contents=[1, 2], shape=(2**40, 2)), spec(), "inputs[x].shape"),
        (request(fp64_contents=[1, 2]), spec(), "inputs[x].contents"),
        (request(fp32_contents=[1, 2], int_contents=[1]), spec(), "inputs[x].contents"),
        (request(datatype="FP16", fp32_contents=[1, 2]), spec("FP16"), "inputs[x].contents"),
        (
            request(datatype="INT8", int_contents=[1, 128]),
            spec("INT8"),
            "inputs[x].contents.int_contents",
        ),
        (
            request(datatype="UINT16", uint_contents=[1, 2**16]),
            spec("UINT16"),
            "inputs[x].contents.uint_contents",
        ),
        (request(datatype="BYTES", bytes_contents=[b"a", b"\xff"]), spec("BYTES"), "inputs[x]"),
    ],
)
def test_an_error_names_the_field(
    asked: ModelInferRequest, specs: Mapping[str, TensorSpec], field: str
) -> None:
    with pytest.raises(InvalidError) as caught:
        codec.decode(asked, specs)

    assert caught.value.field == field


@pytest.mark.parametrize("count", [1, 31, 32, 127, 128, 5000])
@pytest.mark.parametrize("datatype", ["BOOL", "FP32", "FP64"])
def test_typed_values_of_any_number_come_whole(datatype: DataType, count: int) -> None:
    given = (np.arange(count) % 2).astype(tensors.DTYPES[datatype])
    field = codec.FORMS[datatype].field
    asked = request(shape=(count,), datatype=datatype, **{field: given.tolist()})

    (array,) = codec.decode(asked, spec(datatype, (-1,))).values()
    answer = codec.encode("m", "1", asked, {"x": array})

    np.testing.assert_array_equal(array, given)
    assert list(getattr(answer.outputs[0].contents, field)) == given.tolist()


def test_a_field_of_the_future_beside_typed_values_does_not_change_them() -> None:
    contents = InferTensorContents(fp32_contents=[1, 2]).SerializeToString() + b"\x7a\x03abc"
    asked = request()
    asked.inputs[0].contents.MergeFromString(contents)

    (array,) = codec.decode(asked, spec()).values()

    assert array.tolist() == [[1, 2]]


def test_raw_contents_come_for_each_input_or_for_none() -> None:
    asked = request(EIGHT)
    asked.raw_input_contents.append(EIGHT)

    with pytest.raises(InvalidError, match=r"raw_input_contents: '2 entries'.*1 input"):
        codec.decode(asked, spec())


@pytest.mark.parametrize("parameter", ["classification", "shared_memory_region"])
def test_what_is_not_offered_is_refused_and_not_passed_over(parameter: str) -> None:
    asked = request(EIGHT)
    asked.outputs.add(name="y").parameters[parameter].int64_param = 3

    with pytest.raises(InvalidError, match=parameter):
        codec.wanted(asked)


def test_shared_memory_is_refused() -> None:
    asked = request(EIGHT)
    asked.inputs[0].parameters["shared_memory_region"].string_param = "region"

    with pytest.raises(InvalidError, match="shared_memory_region"):
        codec.decode(asked, spec())


def test_names_are_bounded() -> None:
    many = ModelInferRequest()
    for n in range(codec.MAX_NAMES + 1):
        many.inputs.add(name=str(n))
        many.outputs.add(name=str(n))

    with pytest.raises(InvalidError, match="inputs"):
        codec.decode(many, spec())
    with pytest.raises(InvalidError, match="outputs"):
        codec.wanted(many)


BYTES = spec("BYTES", (-1,))


@pytest.mark.parametrize(
    ("contents", "count"),
    [
        (b"", 1),
        (b"\1\0\0", 1),
        (b"\1\0\0\0", 1),
        (b"\1\0\0\0ab", 1),
        (b"\1\0\0\0a\0\0\0", 2),
        (b"\xff\xff\xff\xffa", 1),
        (b"\xff\xff\xff\x7f" * 4, 4),
        (b"\0\0\0\0", 2**26),
        (b"\1\0\0\0\xff", 1),
    ],
)
def test_lengths_of_bytes_that_lie_are_refused(contents: bytes, count: int) -> None:
    with pytest.raises(InvalidError, match=r"inputs\[x\]"):
        codec.decode(request(contents, shape=(count,), datatype="BYTES"), BYTES)


@settings(max_examples=300)
@given(
    contents=st.binary(max_size=40),
    shape=st.lists(st.integers(-1, 2**63 - 1) | st.integers(0, 4), max_size=3),
    datatype=st.sampled_from(DATATYPES),
)
def test_raw_bytes_are_a_tensor_of_the_shape_or_a_clear_error(
    contents: bytes, shape: list[int], datatype: DataType
) -> None:
    asked = request(contents, shape=tuple(shape), datatype=datatype)
    try:
        (array,) = codec.decode(asked, spec(datatype, (-1,) * len(shape))).values()
    except InvalidError as error:
        assert error.field.startswith("inputs[x]")  # noqa: PT017 - either outcome is checked
    else:
        assert array.shape == tuple(shape)
        assert raw.encode(array) == contents


@settings(max_examples=300)
@given(data=st.binary(max_size=80))
def test_any_bytes_are_a_request_or_a_clear_error(data: bytes) -> None:
    try:
        codec.decode(infer.parse(data), spec())
    except InvalidError as error:
        assert error.fix  # noqa: PT017 - either outcome is checked


def test_bytes_cut_off_anywhere_are_no_request_with_another_meaning() -> None:
    whole = request(EIGHT).SerializeToString()

    for length in range(len(whole)):
        with pytest.raises((InvalidError, DecodeError)):
            codec.decode(infer.parse(whole[:length]), spec())
