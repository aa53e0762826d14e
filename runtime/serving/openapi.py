"""A model's HTTP interface as OpenAPI 3.1, made from its signature.

A description holds an example of each request. It is the first row of the bundle's check if it has
one, else zeros, and it works as it is: whoever reads it can send it. A tensor too large to be read
has no example.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np

from runtime.bundle.index import DataType, Signature, TensorSpec
from runtime.inference.tensors import DTYPES, Arrays
from runtime.serving import examples
from runtime.serving.tables import Layout

OPENAPI = "3.1.0"

Json = dict[str, Any]


def describe(
    name: str,
    version: str,
    layout: Layout,
    *,
    example: Arrays | None = None,
    only: bool = False,
    keyed: bool = False,
) -> Json:
    """Return the description of one model version.

    `example` are inputs that fit the signature, of which the first row is shown; None: zeros.
    `only`: the server has no other model, so that /score is this one's. `keyed`: it wants a key.
    """
    shown = examples.first_row(layout.signature, example)
    score = _score(layout, shown)
    model = f"/v2/models/{quote(name, safe='')}"
    paths = {
        f"{model}/score": {"post": score},
        f"{model}/infer": {"post": _infer(name, version, layout.signature, shown)},
        f"{model}/ready": {"get": _ready()},
    }
    if only:
        paths["/score"] = {"post": {**score, "operationId": "scoreTheOnlyModel"}}
    document: Json = {
        "openapi": OPENAPI,
        "info": {
            "title": name,
            "version": version,
            "summary": f"Predictions of the model {name}, version {version}.",
        },
        "paths": paths,
        "components": {"schemas": {"Error": _error()}},
    }
    if keyed:
        document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
        document["security"] = [{"key": []}]
    return document


def _score(layout: Layout, arrays: Arrays) -> Json:
    records = {"type": "array", "items": _record(layout)}
    names = {"type": "array", "items": {"type": "string"}}
    table = {"type": "array", "items": {"type": "array"}}
    forms = [
        _object({"rows": records}, ("rows",)),
        _object({"columns": names, "data": table}, ("data",)),
        _object({"inputs": {"type": ["object", "array"]}}, ("inputs",)),
        records,
    ]
    body: Json = {"schema": {"oneOf": forms}}
    example = examples.score_body(layout, arrays)
    if example is not None:
        body["example"] = example
    answer = _object(
        {
            "model": {"type": "string"},
            "version": {"type": "string"},
            "predictions": {"type": "array", "items": {"type": "object"}},
            "columns": names,
            "data": table,
            "outputs": {"type": "object"},
        },
        ("model", "version"),
    )
    return {
        "operationId": "score",
        "summary": "Predict for each row of a table",
        "description": "The answer has the form of the request: rows, columns with data, or"
        " tensors by name; CSV for CSV.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": body,
                "text/csv": {"schema": {"type": "string"}},
            },
        },
        "responses": _responses("The predictions", answer, csv=True),
    }


def _infer(name: str, version: str, signature: Signature, arrays: Arrays) -> Json:
    inputs = {
        "type": "array",
        "minItems": len(signature.inputs),
        "maxItems": len(signature.inputs),
        "items": {"oneOf": [_tensor(spec) for spec in signature.inputs]},
    }
    body: Json = {"schema": _object({"id": {"type": "string"}, "inputs": inputs}, ("inputs",))}
    example = examples.infer_body(signature, arrays)
    if example is not None:
        body["example"] = example
    outputs = {"type": "array", "items": {"anyOf": [_tensor(spec) for spec in signature.outputs]}}
    answer = _object(
        {
            "model_name": {"const": name},
            "model_version": {"const": version},
            "id": {"type": "string"},
            "outputs": outputs if signature.outputs else {"type": "array"},
        },
        ("model_name", "model_version", "outputs"),
    )
    return {
        "operationId": "infer",
        "summary": "Predict, by the Open Inference Protocol v2",
        "requestBody": {"required": True, "content": {"application/json": body}},
        "responses": _responses("The outputs", answer),
    }


def _ready() -> Json:
    return {
        "operationId": "ready",
        "summary": "Say whether the model may be asked",
        "responses": {"200": {"description": "It may"}, "404": _failure("There is no such model")},
    }


def _responses(what: str, schema: Json, *, csv: bool = False) -> Json:
    content: Json = {"application/json": {"schema": schema}}
    if csv:
        content["text/csv"] = {"schema": {"type": "string"}}
    return {
        "200": {"description": what, "content": content},
        "400": _failure("The request is wrong; the text names what, and how to mend it"),
        "429": _failure("Too many wait; Retry-After says when to come again"),
        "500": _failure("The model failed"),
        "503": _failure("The model is not ready; Retry-After says when to come again"),
    }


def _failure(what: str) -> Json:
    schema = {"$ref": "#/components/schemas/Error"}
    return {"description": what, "content": {"application/json": {"schema": schema}}}


def _error() -> Json:
    return _object({"error": {"type": "string"}}, ("error",))


def _record(layout: Layout) -> Json:
    """Return the schema of one row."""
    if not layout.columns:
        return {"type": "object"}
    matrix = layout.matrix
    specs = layout.signature.inputs if matrix is None else (matrix,) * len(layout.columns)
    cells = {
        name: _cell(spec.datatype) if matrix is not None else _nested(spec, spec.shape[1:])
        for name, spec in zip(layout.columns, specs, strict=True)
    }
    return _object(cells, layout.columns)


def _nested(spec: TensorSpec, shape: tuple[int, ...]) -> Json:
    if shape in {(), (1,)}:
        return _cell(spec.datatype)
    lists: Json = _cell(spec.datatype)
    for size in reversed(shape):
        lists = {"type": "array", "items": lists}
        if size >= 0:
            lists |= {"minItems": size, "maxItems": size}
    return lists


def _cell(datatype: DataType) -> Json:
    dtype = DTYPES[datatype]
    if dtype.kind == "O":
        return {"type": "string"}
    if dtype.kind == "b":
        return {"type": "boolean"}
    if dtype.kind == "f":
        return {"type": ["number", "null"]}
    limits = np.iinfo(dtype)
    return {"type": "integer", "minimum": int(limits.min), "maximum": int(limits.max)}


def _tensor(spec: TensorSpec) -> Json:
    return _object(
        {
            "name": {"const": spec.name},
            "shape": {"type": "array", "items": {"type": "integer"}},
            "datatype": {"const": spec.datatype},
            "data": {"type": "array"},
        },
        ("name", "shape", "datatype"),
    ) | {"description": f"Shape {list(spec.shape)}; -1 is any size"}


def _object(properties: Mapping[str, Json], required: tuple[str, ...]) -> Json:
    return {"type": "object", "properties": dict(properties), "required": list(required)}
