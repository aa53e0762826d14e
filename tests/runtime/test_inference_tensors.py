import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from runtime.bundle.index import DataType, Signature, TensorSpec
from runtime.errors import InvalidError, ModelError
from runtime.inference import tensors
from runtime.inference.tensors import TensorIn

ARRAYS = st.sampled_from(sorted(set(tensors.DTYPES) - {"BYTES"})).flatmap(
    lambda name: hnp.arrays(
        tensors.DTYPES[name],
        hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements={"allow_infinity": False} if name.startswith("FP") else None,
    )
)


def nulls(values: Any) -> Any:
    """What JSON makes of NaN."""
    if isinstance(values, list):
        return [nulls(value) for value in values]
    return None if isinstance(values, float) and math.isnan(values) else values


@settings(max_examples=150)
@given(array=ARRAYS, nested=st.booleans())
def test_what_goes_out_comes_in_again_flat_or_nested(array: tensors.Array, *, nested: bool) -> None:
    out = tensors.encode("t", array)
    flat = nested and array.ndim > 0
    data = nulls(array.tolist() if flat else out.data)

    back = tensors.decode(
        TensorIn(name="t", shape=out.shape, datatype=out.datatype, data=data),
        TensorSpec("t", out.datatype, tuple(-1 for _ in out.shape)),
    )

    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_strings_are_bytes_of_the_protocol() -> None:
    array = np.array([["a", "ü"]], dtype=object)

    out = tensors.encode("t", array)
    back = tensors.decode(
        TensorIn("t", out.shape, out.datatype, out.data), TensorSpec("t", "BYTES", (-1, 2))
    )

    assert (out.datatype, out.data) == ("BYTES", ["a", "ü"])
    assert back.tolist() == [["a", "ü"]]


@pytest.mark.parametrize(
    ("datatype", "data"),
    [
        ("INT64", [1.5, 2]),
        ("INT64", [1.0, 2.0]),
        ("INT8", [128, 0]),
        ("UINT8", [-1, 0]),
        ("UINT64", [2**64, 0]),
        ("INT64", [2**63, 0]),
        ("INT32", [True, False]),
        ("INT32", [None, 1]),
        ("BOOL", [0, 1]),
        ("FP32", ["1", "2"]),
        ("FP32", [True, False]),
        ("FP32", [1e39, 0]),
        ("FP16", [70000, 0]),
        ("FP32", [10**400, 0]),
        ("FP64", [{"a": 1}, 0]),
        ("FP32", [[1, 2], [3]]),
        ("BYTES", [1, 2]),
        ("BYTES", ["a", None]),
        ("BYTES", [["a"], ["b", "c"]]),
        ("FP32", [1, 2, 3]),
        ("FP32", [[1], [2]]),
        ("FP32", []),
    ],
)
def test_data_that_is_not_what_it_says_is_refused_by_name(
    datatype: DataType, data: list[Any]
) -> None:
    tensor = TensorIn(name="x", shape=(2,), datatype=datatype, data=data)

    with pytest.raises(InvalidError, match=r"inputs\[x\]\.data"):
        tensors.decode(tensor, TensorSpec("x", datatype, (-1,)))


def test_unsigned_integers_on_both_sides_of_the_signed_range_are_exact() -> None:
    tensor = TensorIn("x", (3,), "UINT64", [1, 2**63, 2**64 - 1])

    assert tensors.decode(tensor, TensorSpec("x", "UINT64", (3,))).tolist() == tensor.data


def test_null_is_a_missing_number() -> None:
    array = tensors.decode(TensorIn("x", (2,), "FP32", [None, 1]), TensorSpec("x", "FP32", (-1,)))

    assert math.isnan(array[0])
    assert array[1] == 1


@pytest.mark.parametrize("shape", [(3,), (2, 3), (-1,), (1 << 40, 1 << 40), (2,) * 40])
def test_a_shape_that_does_not_fit_is_refused_by_name(shape: tuple[int, ...]) -> None:
    tensor = TensorIn(name="x", shape=shape, datatype="FP32", data=[1.0, 2.0])

    with pytest.raises(InvalidError, match=r"inputs\[x\]\.shape"):
        tensors.decode(tensor, TensorSpec("x", "FP32", (2,)))


def test_a_shape_that_promises_too_much_is_refused_before_anything_is_made() -> None:
    tensor = TensorIn(name="x", shape=(1 << 40, 1 << 40), datatype="FP32", data=[1.0])

    with pytest.raises(InvalidError, match=r"inputs\[x\]\.shape.*at most"):
        tensors.decode(tensor, TensorSpec("x", "FP32", (-1, -1)))


def test_another_datatype_than_the_models_is_refused_by_name() -> None:
    tensor = TensorIn(name="x", shape=(1,), datatype="FP64", data=[1.0])

    with pytest.raises(InvalidError, match=r"inputs\[x\]\.datatype.*FP32"):
        tensors.decode(tensor, TensorSpec("x", "FP32", (1,)))


SIGNATURE = Signature(
    inputs=(TensorSpec("a", "FP32", (-1, 2)), TensorSpec("s", "BYTES", (-1,))), outputs=()
)


def test_arrays_of_a_source_are_cast_within_their_kind_and_get_a_batch_dimension() -> None:
    arrays = tensors.conform(SIGNATURE, {"a": np.array([1, 2]), "s": "text"})

    assert arrays["a"].dtype == np.float32
    assert arrays["a"].tolist() == [[1.0, 2.0]]
    assert arrays["s"].tolist() == ["text"]


@pytest.mark.parametrize(
    ("inputs", "field"),
    [
        ({"a": [[1.0, 2.0]]}, "inputs: "),
        ({"a": [[1.0, 2.0]], "s": ["t"], "more": 1}, "inputs: 'more'"),
        ({"a": [[1.0, 2.0, 3.0]], "s": ["t"]}, r"inputs\[a\]\.shape"),
        ({"a": [["x", "y"]], "s": ["t"]}, r"inputs\[a\]\.datatype"),
        ({"a": [[1j, 2j]], "s": ["t"]}, r"inputs\[a\]\.datatype"),
        ({"a": [[1.0], [1.0, 2.0]], "s": ["t"]}, r"inputs\[a\]"),
        ({"a": [[1.0, 2.0]], "s": [1]}, r"inputs\[s\]\.datatype"),
    ],
)
def test_arrays_of_a_source_that_do_not_fit_are_refused_by_name(
    inputs: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidError, match=field):
        tensors.conform(SIGNATURE, inputs)


def test_an_input_sent_twice_is_refused() -> None:
    with pytest.raises(InvalidError, match="once"):
        tensors.require_names(["x", "x"], {"x": None})


def test_an_output_that_the_protocol_cannot_carry_is_the_models_fault() -> None:
    with pytest.raises(ModelError, match="output z is complex128"):
        tensors.encode("z", np.array([1j]))


def test_zeros_fit_the_signature() -> None:
    made = tensors.zeros(SIGNATURE)

    assert {name: array.tolist() for name, array in made.items()} == {"a": [[0, 0]], "s": [""]}
    assert tensors.conform(SIGNATURE, made)["a"] is made["a"]
