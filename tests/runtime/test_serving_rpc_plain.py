"""The short way for plain requests must not be told from the long one, but by its speed."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtime.bundle.index import DataType, TensorSpec
from runtime.errors import InvalidError
from runtime.inference import raw, tensors
from runtime.inference.tensors import Array
from runtime.serving.protos.open_inference_pb2 import ModelInferRequest, ModelInferResponse
from runtime.serving.rpc import codec, infer, plain

KINDS: tuple[DataType, ...] = ("FP32", "FP16", "INT64", "BOOL", "BYTES")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
TENSORS = st.one_of(
    [
        hnp.arrays(tensors.DTYPES[name], SHAPES, elements=TEXT if name == "BYTES" else None)
        for name in KINDS
    ]
)


def message(arrays: Mapping[str, Array], **texts: str) -> ModelInferRequest:
    made = ModelInferRequest()
    for field, text in texts.items():
        setattr(made, field, text)
    for name, array in arrays.items():
        made.inputs.add(name=name, datatype=tensors.datatype_of(name, array), shape=array.shape)
        made.raw_input_contents.append(raw.encode(array))
    return made


def result(ask: Callable[[], Any]) -> Any:
    """What something returns, or why it does not."""
    try:
        return ask()
    except InvalidError as error:
        return str(error)


@settings(max_examples=200)
@given(
    arrays=st.dictionaries(st.sampled_from("xyz"), TENSORS, min_size=1),
    texts=st.fixed_dictionaries({"model_name": TEXT, "model_version": TEXT, "id": TEXT}),
    wanted=st.lists(st.sampled_from("xyz"), min_size=1, unique=True),
)
def test_a_plain_request_has_the_meaning_of_its_message(
    arrays: dict[str, Array], texts: dict[str, str], wanted: list[str]
) -> None:
    whole = message(arrays, **texts)
    read = plain.read(whole.SerializeToString())
    assert read is not None
    assert {name: getattr(read, name) for name in texts} == texts
    specs = {
        name: TensorSpec(name, tensors.datatype_of(name, array), (-1,) * array.ndim)
        for name, array in {**dict.fromkeys(wanted, np.zeros(2, np.float32)), **arrays}.items()
    }

    for chosen in (specs, {name: specs[name] for name in wanted}):
        short = result(functools.partial(plain.decode, read, chosen))
        long = result(functools.partial(codec.decode, whole, chosen))
        np.testing.assert_equal(short, long)

    answer = plain.encode("m", "1", read, arrays)
    assert ModelInferResponse.FromString(answer) == codec.encode("m", "1", whole, arrays)


@pytest.mark.parametrize(
    "change",
    [
        lambda it: it.outputs.add(name="y"),
        lambda it: it.parameters["timeout"].__setattr__("int64_param", 1),
        lambda it: it.inputs[0].parameters["p"].__setattr__("bool_param", True),
        lambda it: it.inputs[0].contents.fp32_contents.append(1),
        lambda it: it.raw_input_contents.append(b""),
        lambda it: it.inputs.add(name="long", shape=[1] * 300),
        lambda it: it.__setattr__("id", "long" * 100),
        lambda it: it.raw_input_contents.extend([b""] * 1000),
        lambda it: it.ClearField("raw_input_contents"),
        lambda it: it.Clear(),
    ],
)
def test_a_request_that_says_more_is_not_plain(change: Callable[[ModelInferRequest], Any]) -> None:
    whole = message({"x": np.zeros((1, 2), np.float32)}, model_name="m")
    assert plain.read(whole.SerializeToString()) is not None
    change(whole)
    assert plain.read(whole.SerializeToString()) is None


@example(at=0, put=b"\x1a\x09\0\0\0\0\0\x80", cut=0, ends=None)  # an id is no text, and said twice
@settings(max_examples=100, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    at=st.integers(0, 60),
    put=st.binary(max_size=8),
    cut=st.integers(0, 8),
    ends=st.integers(0, 60) | st.none(),
)
def test_bytes_that_are_plain_are_a_message_of_the_same_meaning(
    at: int, put: bytes, cut: int, ends: int | None
) -> None:
    good = message({"x": np.ones((1, 2), np.float32)}, model_name="m", id="7").SerializeToString()
    data = (good[:at] + put + good[at + cut :])[:ends]
    read = plain.read(data)
    assume(read is not None)
    assert read is not None
    whole = infer.parse(data)
    fields = (whole.model_name, whole.model_version, whole.id, list(whole.raw_input_contents))
    assert fields == (read.model_name, read.model_version, read.id, read.contents)
    told = [(each.name, each.datatype, tuple(each.shape)) for each in whole.inputs]
    assert told == [tuple(head) for head in read.heads]
    assert not whole.parameters
    assert not whole.outputs
