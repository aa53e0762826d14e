"""What clients that we did not write make of a server that runs: one suite, four clients."""

import http.client
import json
import queue
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from onnx import TensorProto
from tritonclient import grpc as triton_grpc

from runtime.inference.tensors import Array
from runtime.serving import page
from tests.support import inference_server, models, tritons
from tests.support.inference_server import Ports
from tests.support.tritons import KINDS, Triton

X = np.array([[1, 2, 3, 4], [0, 0, 0, 1]], np.float32)
SLOW = """
import time

def run(inputs):
    time.sleep(float(inputs["x"][0, 0]))
    return {"y": inputs["x"][:, :3]}
"""
VALUES: dict[str, tuple[int, Array]] = {
    "BOOL": (TensorProto.BOOL, np.array([[True, False], [False, True]])),
    "UINT8": (TensorProto.UINT8, np.array([[0, 255]], np.uint8)),
    "UINT16": (TensorProto.UINT16, np.array([[0, 2**16 - 1]], np.uint16)),
    "UINT32": (TensorProto.UINT32, np.array([[0, 2**32 - 1]], np.uint32)),
    "UINT64": (TensorProto.UINT64, np.array([[0, 2**64 - 1]], np.uint64)),
    "INT8": (TensorProto.INT8, np.array([[-128, 127]], np.int8)),
    "INT16": (TensorProto.INT16, np.array([[-(2**15), 2**15 - 1]], np.int16)),
    "INT32": (TensorProto.INT32, np.array([[-(2**31), 2**31 - 1]], np.int32)),
    "INT64": (TensorProto.INT64, np.array([[-(2**63), 2**63 - 1]], np.int64)),
    "FP16": (TensorProto.FLOAT16, np.array([[0.5, -65504]], np.float16)),
    "FP32": (TensorProto.FLOAT, np.array([[0.1, -3e38]], np.float32)),
    "FP64": (TensorProto.DOUBLE, np.array([[0.1, -1e308]], np.float64)),
    "BYTES": (TensorProto.STRING, np.array([["", "Grüße 🐎"]], np.object_)),
}


def texts(array: Array) -> Array:
    """The library's BYTES are bytes from a binary answer, and texts from JSON."""
    told = [value.decode() if isinstance(value, bytes) else value for value in array.flat]
    return np.array(told, array.dtype).reshape(array.shape)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("repository")
    for version, factor in (("1", 1.0), ("2", 2.0)):
        models.install(root / "linear" / version, models.linear_model(factor=factor), name="linear")
    models.install(root / "pair" / "1", models.two_input_model(), name="pair")
    models.install(root / "animal" / "1", models.classifier_model(), name="animal")
    models.install(root / "broken" / "1", models.reshape_model(), name="broken")
    models.install(root / "slow" / "1", models.linear_model(), name="slow", entry=SLOW)
    models.install(root / "spare" / "1", models.linear_model(), name="spare")
    for name, (element, _) in VALUES.items():
        directory = root / f"same-{name.lower()}" / "1"
        models.install(directory, models.identity_model(element), name=directory.parent.name)
    return root


@pytest.fixture(scope="module")
def ports(root: Path) -> Iterator[Ports]:
    with inference_server.running(root, "--allow", "entry-script") as ports:
        yield ports


@pytest.fixture(scope="module", params=KINDS)
def triton(request: pytest.FixtureRequest, ports: Ports) -> Iterator[Triton]:
    with tritons.client(request.param, ports) as triton:
        yield triton


def test_the_server_is_live_and_ready(triton: Triton) -> None:
    assert triton.ask("is_server_live")
    assert triton.ask("is_server_ready")
    assert triton.ask("is_model_ready", "linear")
    assert triton.ask("is_model_ready", "linear", "1")
    assert not triton.refused_or_false("is_model_ready", "nobody")
    assert triton.ask("get_server_metadata")["name"] == "packhorse"


def test_a_model_says_what_it_takes_and_gives(triton: Triton) -> None:
    said = triton.ask("get_model_metadata", "linear")

    assert said["name"] == "linear"
    assert said["versions"] == ["1", "2"]
    assert [(t["name"], t["datatype"], list(map(int, t["shape"]))) for t in said["inputs"]] == [
        ("x", "FP32", [-1, 4])
    ]
    assert [(t["name"], t["datatype"], list(map(int, t["shape"]))) for t in said["outputs"]] == [
        ("y", "FP32", [-1, 3])
    ]


def test_a_model_has_a_configuration(triton: Triton) -> None:
    said = triton.ask("get_model_config", "animal")
    config = said.get("config", said)

    assert config["name"] == "animal"
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert list(map(int, config["input"][0]["dims"])) == [-1, 3]
    assert config["output"][0]["data_type"] == "TYPE_STRING"


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("datatype", VALUES)
def test_every_datatype_comes_back_as_it_went(
    triton: Triton, datatype: str, *, binary: bool
) -> None:
    _, array = VALUES[datatype]
    binary = binary or datatype == "FP16"  # the library itself knows no other way
    # Named, the output comes in the form that is asked for; else the library asks for binary.
    result = triton.infer(f"same-{datatype.lower()}", {"x": array}, outputs=["y"], binary=binary)
    back = texts(result.as_numpy("y"))

    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_texts_and_numbers_go_out_together(triton: Triton) -> None:
    result = triton.infer("animal", {"x": np.array([[0, 9, 0], [0, 0, 9]], np.float32)})

    assert result.as_numpy("label").tolist() == [b"dog", b"owl"]
    assert result.as_numpy("probabilities").shape == (2, 3)


def test_an_empty_batch_has_an_empty_answer(triton: Triton) -> None:
    assert triton.infer("linear", {"x": X[:0]}).as_numpy("y").shape == (0, 3)


@pytest.mark.parametrize("binary", [True, False])
def test_only_the_outputs_asked_for_come(triton: Triton, *, binary: bool) -> None:
    pair = {"a": np.array([[2]], np.float32), "b": np.array([[3]], np.float32)}

    both = triton.infer("pair", pair, binary=binary)
    one = triton.infer("pair", pair, outputs=["product"], binary=binary)

    assert (both.as_numpy("sum").tolist(), both.as_numpy("product").tolist()) == ([[5]], [[6]])
    assert one.as_numpy("product").tolist() == [[6]]
    assert one.as_numpy("sum") is None


def test_a_version_is_asked_by_its_number_and_the_newest_by_name(triton: Triton) -> None:
    old = triton.infer("linear", {"x": X}, model_version="1", request_id="a-1")
    new = triton.infer("linear", {"x": X})

    assert old.as_numpy("y").tolist() == [[10, 10, 10], [1, 1, 1]]
    assert new.as_numpy("y").tolist() == [[20, 20, 20], [2, 2, 2]]
    assert triton.answer(old)["model_version"] == "1"
    assert triton.answer(old)["id"] == "a-1"
    assert triton.answer(new)["model_version"] == "2"


@pytest.mark.parametrize(
    ("model", "inputs", "more", "words"),
    [
        ("nobody", {"x": X}, {}, "nobody"),
        ("linear", {"x": X}, {"model_version": "9"}, "version 9"),
        ("linear", {"z": X}, {}, "'z'"),
        ("linear", {"x": X[:, :3]}, {}, "[-1, 4]"),
        ("linear", {"x": X.astype(np.float64)}, {}, "the model takes FP32"),
        ("linear", {"x": X}, {"outputs": ["z"]}, "the model gives y"),
        ("pair", {"a": X[:, :1]}, {}, "'b'"),
        ("broken", {"x": X[:1]}, {}, "eshape"),
    ],
)
def test_an_error_says_what_is_wrong(
    triton: Triton, model: str, inputs: dict[str, Array], more: dict[str, Any], words: str
) -> None:
    refusal = triton.refusal("infer", model, inputs, **more)

    assert words in str(refusal.message())
    np.testing.assert_array_equal(triton.infer("linear", {"x": X}).as_numpy("y")[0], [20] * 3)


@pytest.mark.parametrize(
    ("model", "http", "grpc"),
    [
        ("nobody", "404", "NOT_FOUND"),
        ("broken", "500", "INTERNAL"),
        ("pair", "400", "INVALID_ARGUMENT"),
    ],
)
def test_an_error_has_the_code_of_its_kind(
    triton: Triton, model: str, http: str, grpc: str
) -> None:
    refusal = triton.refusal("infer", model, {"x": X[:1]})

    assert refusal.status() == (http if triton.is_http else f"StatusCode.{grpc}")


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_bodies_may_be_compressed(triton: Triton, algorithm: str) -> None:
    large = np.ones((3000, 4), np.float32)
    how = (
        {"request_compression_algorithm": algorithm, "response_compression_algorithm": algorithm}
        if triton.is_http
        else {"compression_algorithm": algorithm}
    )

    result = triton.infer("linear", {"x": large}, **how)

    np.testing.assert_array_equal(result.as_numpy("y"), np.full((3000, 3), 8))


def test_what_was_asked_is_counted(triton: Triton) -> None:
    def count() -> int:
        (said,) = triton.ask("get_inference_statistics", "linear", "1")["model_stats"]
        return int(said["inference_count"])

    before = count()
    triton.infer("linear", {"x": X}, model_version="1")
    everything = triton.ask("get_inference_statistics")["model_stats"]

    assert count() == before + 1
    assert {"linear", "pair", "animal"} <= {said["name"] for said in everything}


def test_models_are_unloaded_and_loaded(triton: Triton) -> None:
    def state() -> str:
        said = triton.ask("get_model_repository_index")
        entries = said if isinstance(said, list) else said["models"]
        return next(str(e["state"]) for e in entries if e["name"] == "spare")

    assert state() == "READY"
    triton.ask("unload_model", "spare")
    gone = state()
    refusal = triton.refusal("infer", "spare", {"x": X})
    triton.ask("load_model", "spare")

    assert gone == "UNAVAILABLE"
    assert "spare" in str(refusal.message())
    assert triton.infer("spare", {"x": X}).as_numpy("y").tolist()[0] == [10, 10, 10]
    assert "ghost" in str(triton.refusal("load_model", "ghost").message())


def test_the_protocols_timeout_ends_a_request_and_not_the_model(triton: Triton) -> None:
    slow, quick = X.copy(), X.copy()
    slow[0, 0], quick[0, 0] = 0.5, 0.0

    refusal = triton.refusal("infer", "slow", {"x": slow}, timeout=50_000)
    result = triton.infer("slow", {"x": quick}, timeout=30_000_000)

    assert refusal.status() == ("504" if triton.is_http else "StatusCode.DEADLINE_EXCEEDED")
    assert result.as_numpy("y").shape == (2, 3)


EXAMPLES = ["linear", "pair", "animal", "slow", *(f"same-{name.lower()}" for name in VALUES)]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_a_description_are_answered(name: str, ports: Ports) -> None:
    described = fetch(ports, "GET", f"/v2/models/{name}/openapi.json")

    for path in (f"/v2/models/{name}/score", f"/v2/models/{name}/infer"):
        operation = described["paths"][path]["post"]
        example = operation["requestBody"]["content"]["application/json"]["example"]
        schema = operation["responses"]["200"]["content"]["application/json"]["schema"]

        jsonschema.validate(fetch(ports, "POST", path, example), schema)


def test_the_page_comes_with_its_policy_and_finds_what_it_asks_for(ports: Ports) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", ports.http, timeout=30)
    connection.request("GET", "/docs")
    answer = connection.getresponse()
    html = answer.read()
    connection.close()
    index = fetch(ports, "POST", "/v2/repository/index")
    versions = {(entry["name"], entry["version"]) for entry in index if entry["state"] == "READY"}

    assert html == page.PAGE
    assert answer.headers["content-type"] == page.CONTENT_TYPE
    assert answer.headers["content-security-policy"] == page.policy()
    assert ("linear", "1") in versions
    described = fetch(ports, "GET", "/v2/models/linear/versions/1/openapi.json")
    assert described["info"]["version"] == "1"
    assert "/v2/models/linear/score" in described["paths"]


def fetch(ports: Ports, method: str, path: str, body: Any = None) -> Any:
    """Return what a plain client gets, from JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", ports.http, timeout=30)
    data = None if body is None else json.dumps(body)
    connection.request(method, path, data, {"content-type": "application/json"})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    assert answer.status == 200, said
    return json.loads(said)


@pytest.mark.parametrize("kind", ["grpc", "grpc.aio"])
def test_a_client_that_does_not_wait_leaves_nothing_broken(kind: Any, ports: Ports) -> None:
    slow = X.copy()
    slow[0, 0] = 0.3

    with tritons.client(kind, ports) as triton:
        refusal = triton.refusal("infer", "slow", {"x": slow}, client_timeout=0.05)
        slow[0, 0] = 0
        result = triton.infer("slow", {"x": slow})

    assert refusal.status() == "StatusCode.DEADLINE_EXCEEDED"
    assert result.as_numpy("y").shape == (2, 3)


def test_a_stream_answers_in_turn(ports: Ports) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    tensor = triton_grpc.InferInput("x", [2, 4], "FP32")
    tensor.set_data_from_numpy(X)

    with triton_grpc.InferenceServerClient(f"127.0.0.1:{ports.grpc}") as client:
        client.start_stream(callback=lambda result, error: answers.put((result, error)))
        for name in ("linear", "nobody", "pair", "linear"):
            client.async_stream_infer(name, [tensor], request_id=name)
        got = [answers.get(timeout=30) for _ in range(4)]
        client.stop_stream()

    assert [error is None for _, error in got] == [True, False, False, True]
    assert got[0][0].get_response().id == "linear"
    assert "nobody" in str(got[1][1])
    assert got[3][0].as_numpy("y").tolist() == [[20, 20, 20], [2, 2, 2]]
