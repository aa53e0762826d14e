"""What a model says of its HTTP interface, held against the rules of OpenAPI and JSON Schema."""

import json
import re
from typing import Any

import jsonschema
import numpy as np
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from runtime.bundle.index import DataType, Signature, TensorSpec
from runtime.inference.tensors import DTYPES, Arrays
from runtime.serving import examples, openapi, page, scoring, tables
from runtime.serving.tables import Layout

Y = (TensorSpec("y", "FP32", (-1, 2)),)


def of(*inputs: tuple[str, DataType, tuple[int, ...]], columns: str = "") -> Layout:
    signature = Signature(tuple(TensorSpec(*each) for each in inputs), Y)
    return tables.layout(signature, {"columns": columns})


LAYOUTS = {
    "matrix": of(("x", "FP32", (-1, 3))),
    "named": of(("x", "FP64", (-1, 3)), columns="age, height, weight"),
    "any width": of(("x", "FP32", (-1, -1))),
    "one text": of(("text", "BYTES", (-1,))),
    "several": of(("a", "INT64", (-1, 1)), ("b", "BYTES", (-1,)), ("c", "BOOL", (-1, 1))),
    "nested": of(("image", "UINT8", (-1, 3, 2, 2))),
    "rows differ": of(("a", "FP32", (2, 3)), ("b", "FP32", (4,))),
    "no rows": of(("a", "FP32", ()), ("b", "INT8", ())),
    "fixed": of(("x", "FP16", (1, 4))),
} | {datatype: of(("x", datatype, (-1, 2))) for datatype in DTYPES}
EVERY = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def described(layout: Layout, **more: Any) -> Any:
    """A description as a client reads it."""
    return json.loads(json.dumps(openapi.describe("a model/x", "3", layout, **more)))


def body(document: Any, path: str) -> Any:
    return document["paths"][path]["post"]["requestBody"]["content"]["application/json"]


SCORE, INFER = "/v2/models/a%20model%2Fx/score", "/v2/models/a%20model%2Fx/infer"


@EVERY
@pytest.mark.parametrize("alone", [True, False])
def test_a_description_is_valid_openapi(layout: Layout, *, alone: bool) -> None:
    document = described(layout, only=alone, keyed=alone)

    OpenAPIV31SpecValidator(document).validate()
    assert ("/score" in document["paths"]) == alone
    assert ("security" in document) == alone


@EVERY
def test_the_examples_are_what_the_description_says(layout: Layout) -> None:
    document = described(layout)

    for path in (SCORE, INFER):
        content = body(document, path)
        jsonschema.validate(content["example"], content["schema"])


@EVERY
def test_the_example_of_a_table_makes_the_zeros_it_stands_for(layout: Layout) -> None:
    example = json.dumps(body(described(layout), SCORE)["example"]).encode()

    table = scoring.decode(example, "application/json", layout)

    zeros = examples.first_row(layout.signature, None)
    assert {n: a.dtype for n, a in table.inputs.items()} == {n: a.dtype for n, a in zeros.items()}
    for name, array in zeros.items():
        np.testing.assert_array_equal(table.inputs[name], array)


def test_a_bundles_own_check_is_the_example() -> None:
    given: Arrays = {"x": np.array([[1.5, np.nan, 3], [4, 5, 6]])}
    document = described(LAYOUTS["named"], example=given)

    assert body(document, SCORE)["example"] == {
        "rows": [{"age": 1.5, "height": None, "weight": 3.0}]
    }
    assert body(document, INFER)["example"]["inputs"] == [
        {"name": "x", "shape": [1, 3], "datatype": "FP64", "data": [1.5, None, 3.0]}
    ]


def test_a_tensor_too_large_to_be_read_has_no_example() -> None:
    document = described(of(("image", "FP32", (-1, 3, 224, 224))))

    assert "example" not in body(document, SCORE)
    assert "example" not in body(document, INFER)


def test_the_page_needs_nothing_from_elsewhere_and_lets_nothing_in() -> None:
    html = page.PAGE.decode()

    assert re.findall(r"(?:src|href)=", html) == []
    assert re.findall(r"https?:|//|innerHTML|insertAdjacent|eval", html) == []
    assert f"<script>{page.SCRIPT}</script>" in html
    assert f"<style>{page.STYLE}</style>" in html
    assert page.policy().startswith("default-src 'none'; script-src 'sha256-")
