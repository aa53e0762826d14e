import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.bundle.index import Signature, TensorSpec
from runtime.errors import InvalidError, ModelError
from runtime.inference.tensors import Arrays
from runtime.serving import scoring, tables
from runtime.serving.scoring import Table
from runtime.serving.tables import Layout

Y = (TensorSpec("y", "FP32", (-1, 2)),)
MATRIX = Signature((TensorSpec("x", "FP32", (-1, 3)),), Y)
SEVERAL = Signature(
    (
        TensorSpec("age", "INT64", (-1, 1)),
        TensorSpec("city", "BYTES", (-1,)),
        TensorSpec("vip", "BOOL", (-1, 1)),
    ),
    Y,
)
IMAGE = Signature((TensorSpec("image", "UINT8", (-1, 2, 2)),), Y)
PLAIN = tables.layout(MATRIX)
NAMED = tables.layout(MATRIX, {"columns": "a, b, c"})
WIDE = tables.layout(Signature((TensorSpec("x", "FP32", (-1, -1)),), Y))


def read(body: Any, layout: Layout, content_type: str = "application/json") -> Table:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return scoring.decode(data, content_type, layout)


def values(table: Table) -> Any:
    return {name: array.tolist() for name, array in table.inputs.items()}


@pytest.mark.parametrize(
    ("body", "content_type", "style"),
    [
        ({"columns": ["f0", "f1", "f2"], "data": [[1, 2, 3], [4, 5, 6]]}, "", "columns"),
        ({"data": [[1, 2, 3], [4, 5, 6]]}, "application/json; charset=utf-8", "columns"),
        ({"rows": [{"f0": 1, "f1": 2, "f2": 3}, {"f2": 6, "f1": 5, "f0": 4}]}, "", "records"),
        ([{"f0": 1, "f1": 2, "f2": 3}, {"f0": 4, "f1": 5, "f2": 6}], "", "records"),
        ([[1, 2, 3], [4, 5, 6]], "", "columns"),
        ({"dataframe_split": {"index": [7, 8], "data": [[1, 2, 3], [4, 5, 6]]}}, "", "columns"),
        (
            {"dataframe_records": [{"f0": 1, "f1": 2, "f2": 3}, {"f0": 4, "f1": 5, "f2": 6}]},
            "",
            "records",
        ),
        ({"inputs": {"x": [[1, 2, 3], [4, 5, 6]]}}, "", "tensors"),
        ({"inputs": [[1, 2, 3], [4, 5, 6]]}, "", "tensors"),
        (b"f0,f1,f2\r\n1,2,3\r\n4,5,6\r\n", "text/csv", "csv"),
        (b"\xef\xbb\xbff2,f1,f0\n3, 2,1\n\n6,5,4", "Text/CSV; charset=utf-8", "csv"),
    ],
)
def test_each_form_of_a_table_makes_the_same_tensor(
    body: Any, content_type: str, style: str
) -> None:
    table = read(body, PLAIN, content_type)

    assert values(table) == {"x": [[1, 2, 3], [4, 5, 6]]}
    assert table.inputs["x"].dtype == np.float32
    assert table.style == style


def test_columns_that_the_bundle_names_are_found_by_name_in_any_order() -> None:
    table = read({"columns": ["c", "a", "b"], "data": [[3, 1, 2]]}, NAMED)

    assert values(table) == {"x": [[1, 2, 3]]}


def test_columns_that_the_bundle_does_not_name_lie_in_the_order_that_was_told() -> None:
    table = read({"columns": ["age", "height", "weight"], "data": [[1, 2, 3]]}, PLAIN)

    assert values(table) == {"x": [[1, 2, 3]]}


def test_a_model_of_any_width_takes_the_columns_that_come() -> None:
    assert values(read([[1, 2], [3, 4]], WIDE)) == {"x": [[1, 2], [3, 4]]}
    assert values(read([{"f1": 2, "f0": 1}], WIDE)) == {"x": [[1, 2]]}
    assert values(read(b"a,b\n1,2", WIDE, "text/csv")) == {"x": [[1, 2]]}


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (
            {
                "rows": [
                    {"age": 4, "city": "Ulm", "vip": True},
                    {"age": 5, "city": "Rom", "vip": False},
                ]
            },
            "",
        ),
        ({"columns": ["city", "vip", "age"], "data": [["Ulm", True, 4], ["Rom", False, 5]]}, ""),
        (b"vip,age,city\ntrue,4,Ulm\n0,5,Rom\n", "text/csv"),
        ({"inputs": {"age": [[4], [5]], "city": ["Ulm", "Rom"], "vip": [[True], [False]]}}, ""),
    ],
)
def test_a_model_of_several_inputs_takes_them_as_columns(body: Any, content_type: str) -> None:
    table = read(body, tables.layout(SEVERAL), content_type)

    assert values(table) == {
        "age": [[4], [5]],
        "city": ["Ulm", "Rom"],
        "vip": [[True], [False]],
    }


def test_a_cell_may_be_nested_lists_where_the_input_has_more_dimensions() -> None:
    table = read([{"image": [[1, 2], [3, 4]]}, {"image": [[5, 6], [7, 8]]}], tables.layout(IMAGE))

    assert values(table) == {"image": [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]}


def test_a_missing_number_is_null_or_an_empty_cell() -> None:
    assert np.isnan(read([[1, None, 3]], PLAIN).inputs["x"][0, 1])
    assert np.isnan(read(b"a,b,c\n1,,3\n", PLAIN, "text/csv").inputs["x"][0, 1])


def test_a_table_without_rows_is_a_batch_of_none() -> None:
    assert read({"columns": ["f0", "f1", "f2"], "data": []}, PLAIN).inputs["x"].shape == (0, 3)
    assert read(b"f0,f1,f2\n", PLAIN, "text/csv").inputs["x"].shape == (0, 3)
    assert read({"rows": []}, tables.layout(IMAGE)).inputs["image"].shape == (0, 2, 2)


@pytest.mark.parametrize(
    ("body", "layout", "content_type", "words"),
    [
        ([[1, 2, 3], [4, "x", 6]], PLAIN, "", ["row 1", "'f1'", "'x'", "numbers"]),
        ([[1, 2, 3], [4, 5]], PLAIN, "", ["row 1", "2 cells", "send 3"]),
        ([[1, 2, [3]]], PLAIN, "", ["row 0", "'f2'", "one value"]),
        ([[1, 2, 1e39]], PLAIN, "", ["row 0", "'f2'", "1e+39", "float32"]),
        ([[1, 2, 3, 4]], PLAIN, "", ["row 0", "4 cells"]),
        ({"columns": ["a", "b", "d"], "data": [[1, 2, 3]]}, NAMED, "", ["'d'", "a, b, c"]),
        ({"columns": ["a", "b"], "data": [[1, 2]]}, NAMED, "", ["'c'", "a, b, c"]),
        ({"columns": ["a", "b", "c", "c"], "data": []}, NAMED, "", ["each column once"]),
        ([{"a": 1, "b": 2, "c": 3}, {"a": 1, "b": 2}], NAMED, "", ["row 1", "'c'"]),
        ([{"age": 1, "height": 2, "weight": 3}], PLAIN, "", ["row 0", "'age'", "f0, f1, f2"]),
        ([{"a": 1, "b": 2, "c": 3}, [1]], NAMED, "", ["row 1"]),
        ([[1, 2, 3], {"a": 1}], NAMED, "", ["row 1", "list of cells"]),
        ({"rows": {"a": 1}}, NAMED, "", ["rows", "list"]),
        ({"columns": [1, 2, 3], "data": []}, NAMED, "", ["columns", "names"]),
        ({"columns": "abc", "data": []}, NAMED, "", ["columns", "list"]),
        ({"x": [1, 2, 3]}, NAMED, "", ["body", "'x'", "rows"]),
        (7, NAMED, "", ["body", "rows"]),
        (b"{", NAMED, "", ["body"]),
        (b"\xff", NAMED, "", ["body"]),
        (b"[" * 100_000, NAMED, "", ["body"]),
        (b"a,b,c\n1,2,x\n", NAMED, "text/csv", ["row 0", "'c'", "'x'", "FP32"]),
        (b"a,b,c\n1,2,3\n1,2\n", NAMED, "text/csv", ["row 1", "2 cells", "3"]),
        (b'a,b,c\n1,2,"3\n', NAMED, "text/csv", ["body", "quote"]),
        (b"", NAMED, "text/csv", ["head"]),
        (b"a,b,c\n1,2,\xff\n", NAMED, "text/csv", ["UTF-8"]),
        ([[1, 2, 3]], NAMED, "application/xml", ["Content-Type", "text/csv"]),
        (
            [{"age": 1.5, "city": "Ulm", "vip": True}],
            tables.layout(SEVERAL),
            "",
            ["row 0", "'age'"],
        ),
        ([{"age": 1, "city": 3, "vip": True}], tables.layout(SEVERAL), "", ["row 0", "'city'"]),
        (b"age,city,vip\n1,Ulm,maybe\n", tables.layout(SEVERAL), "text/csv", ["'vip'", "BOOL"]),
        ([[1, "Ulm", True], [[2], "Rom", False]], tables.layout(SEVERAL), "", ["'age'", "nest"]),
        ([{"image": [1, 2]}], tables.layout(IMAGE), "", ["row 0", "'image'", "[2, 2]"]),
        ([{"image": 1}], tables.layout(IMAGE), "", ["row 0", "'image'", "[2, 2]"]),
        ({"inputs": {"z": [[1]]}}, NAMED, "", ["inputs", "'z'"]),
        ({"inputs": [1]}, tables.layout(SEVERAL), "", ["inputs", "age, city, vip"]),
        ({"inputs": {"x": [[1, 2]]}}, NAMED, "", ["inputs[x].shape", "[-1, 3]"]),
    ],
)
def test_an_error_names_the_row_and_the_column(
    body: Any, layout: Layout, content_type: str, words: list[str]
) -> None:
    with pytest.raises(InvalidError) as caught:
        read(body, layout, content_type)

    assert [word for word in words if word not in str(caught.value)] == []


OUTPUTS: Arrays = {
    "label": np.array(["cat", b"dog"], dtype=np.object_),
    "score": np.array([[0.5], [np.nan]], dtype=np.float32),
    "both": np.array([[1, 2], [3, 4]], dtype=np.int64),
}


def answer(style: Any, outputs: Arrays = OUTPUTS, rows: int | None = 2) -> Any:
    body, kind = scoring.encode("m", "3", Table({}, style, rows), outputs)
    return json.loads(body) if kind == "application/json" else body.decode()


def test_the_answer_is_a_table_of_the_form_that_was_asked() -> None:
    said = {"model": "m", "version": "3"}

    assert answer("records") == said | {
        "predictions": [
            {"label": "cat", "score": 0.5, "both": [1, 2]},
            {"label": "dog", "score": None, "both": [3, 4]},
        ]
    }
    assert answer("columns") == said | {
        "columns": ["label", "score", "both"],
        "data": [["cat", 0.5, [1, 2]], ["dog", None, [3, 4]]],
    }
    assert answer("tensors", rows=None) == said | {
        "outputs": {"label": ["cat", "dog"], "score": [[0.5], [None]], "both": [[1, 2], [3, 4]]}
    }
    assert answer("csv") == "label,score,both_0,both_1\r\ncat,0.5,1,2\r\ndog,nan,3,4\r\n"


@pytest.mark.parametrize("style", ["records", "columns", "csv"])
def test_outputs_that_have_no_rows_are_not_put_beside_them(style: str) -> None:
    outputs = {"mean": np.array(3.0), "label": np.array(["a", "b"], dtype=np.object_)}

    assert answer(style, outputs)["outputs"] == {"mean": 3.0, "label": ["a", "b"]}


def test_an_output_that_is_no_tensor_of_the_protocol_is_the_models_fault() -> None:
    with pytest.raises(ModelError, match="complex"):
        answer("records", {"z": np.array([1j, 2j])})
    with pytest.raises(ModelError, match="text"):
        answer("records", {"z": np.array([object(), object()], dtype=np.object_)})


CELLS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(max_examples=60)
@given(rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=5))
def test_every_form_carries_the_same_numbers(rows: list[list[float]]) -> None:
    names = ["a", "b", "c"]
    forms = [
        read({"columns": names, "data": rows}, NAMED),
        read({"rows": [dict(zip(names, row, strict=True)) for row in rows]}, NAMED),
        read({"inputs": rows}, NAMED),
        read(
            "\n".join([",".join(names), *(",".join(map(repr, row)) for row in rows)]).encode(),
            NAMED,
            "text/csv",
        ),
    ]

    for table in forms:
        assert table.inputs["x"].tolist() == np.array(rows, np.float32).tolist()


@settings(max_examples=200)
@given(body=st.binary(max_size=60), kind=st.sampled_from(["application/json", "text/csv"]))
def test_any_bytes_are_a_table_or_a_clear_error(body: bytes, kind: str) -> None:
    for layout in (PLAIN, tables.layout(SEVERAL), tables.layout(IMAGE)):
        assert survives(body, kind, layout)


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["rows", "columns", "data", "inputs", "x", "f0", "age"]), inner
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200)
@given(said=JSONS)
def test_any_json_is_a_table_or_a_clear_error(said: Any) -> None:
    body = json.dumps(said).encode()

    for layout in (PLAIN, WIDE, tables.layout(SEVERAL), tables.layout(IMAGE)):
        assert survives(body, "application/json", layout)


def survives(body: bytes, kind: str, layout: Layout) -> bool:
    with contextlib.suppress(InvalidError):
        scoring.decode(body, kind, layout)
    return True
