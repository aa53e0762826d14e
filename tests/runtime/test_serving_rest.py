import json
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.serving.rest import status
from runtime.serving.rest.app import Rest
from runtime.serving.served import Prediction
from runtime.serving.wire.limits import Limits
from tests.support import models, serving
from tests.support.serving import UnixConnection

MAX_BODY = 100_000
INFER = "/v2/models/sums/infer"
X: dict[str, Any] = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}


class Service:
    """A served model and what its hook saw."""

    def __init__(self, path: str, predictions: list[Prediction]) -> None:
        self.path, self.predictions = path, predictions

    def connect(self) -> UnixConnection:
        """Return a new connection."""
        return UnixConnection(self.path)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send one request on a connection of its own."""
        client = self.connect()
        try:
            return client.ask(method, path, body)
        finally:
            client.close()


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    predictions: list[Prediction] = []
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        directory = Path(name)
        bundles = {
            "sums": models.linear_model(),
            "words": models.classifier_model(),
            "fails": models.reshape_model(),
        }
        with serving.plane_of(
            directory / "sums",
            models.install(directory / "sums", bundles.pop("sums"), name="sums"),
            predictions.append,
        ) as plane:
            for bundle, model in bundles.items():
                index = models.install(directory / bundle, model, name=bundle)
                serving.add(plane, directory / bundle, index, "7")
            listener = serving.listen(directory / "s")
            app = Rest(plane, max_body_bytes=MAX_BODY)
            limits = Limits(body_bytes=MAX_BODY)
            server = serving.RunningServer(app, listener, limits=limits)
            server.accept()
            yield Service(str(directory / "s"), predictions)
            server.stop()
            listener.close()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v2/health/live", {"live": True}),
        ("/v2/health/ready", {"live": True, "ready": True}),
        ("/v2/models/sums/ready", {"name": "sums", "ready": True}),
        ("/v2/models/sums/versions/1/ready", {"name": "sums", "ready": True}),
        (
            "/v2/models/sums",
            {
                "name": "sums",
                "versions": ["1"],
                "platform": "onnxruntime_onnx",
                "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
                "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
            },
        ),
    ],
)
def test_what_is_here_is_told(service: Service, path: str, answer: Any) -> None:
    assert service.ask("GET", path) == (200, answer)
    assert service.ask("HEAD", path) == (200, None)


def test_the_server_tells_its_name_and_version(service: Service) -> None:
    status, answer = service.ask("GET", "/v2")

    assert status == 200
    assert answer["name"] == "packhorse"
    assert "binary_tensor_data" in answer["extensions"]


def test_a_request_is_answered_with_its_id_and_the_version(service: Service) -> None:
    status, answer = service.ask("POST", INFER, {"id": "r-1", "inputs": [X]})

    assert status == 200
    assert answer == {
        "model_name": "sums",
        "model_version": "1",
        "id": "r-1",
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [1, 3], "data": [10, 10, 10]}],
    }


def test_no_id_is_invented(service: Service) -> None:
    assert "id" not in service.ask("POST", INFER, {"inputs": [X]})[1]


def test_nested_data_parameters_and_asked_outputs_are_taken(service: Service) -> None:
    request = {
        "parameters": {"priority": 3},
        "inputs": [X | {"data": [[1, 1, 1, 1]], "parameters": {"content_type": "np"}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": False}}],
    }

    status, answer = service.ask("POST", "/v2/models/sums/versions/1/infer", request)

    assert (status, answer["outputs"][0]["data"]) == (200, [4, 4, 4])


def test_strings_are_answered(service: Service) -> None:
    x = X | {"shape": [1, 3], "data": [0, 9, 1]}

    status, answer = service.ask(
        "POST", "/v2/models/words/infer", {"inputs": [x], "outputs": [{"name": "label"}]}
    )

    assert status == 200
    assert answer["outputs"] == [
        {"name": "label", "datatype": "BYTES", "shape": [1], "data": ["dog"]}
    ]


def test_every_prediction_is_seen_before_its_answer_also_a_failed_one(service: Service) -> None:
    service.predictions.clear()
    service.ask("POST", INFER, {"id": "seen", "inputs": [X]})
    status, answer = service.ask("POST", "/v2/models/fails/infer", {"inputs": [X]})

    assert status == 500
    assert "cannot be reshaped" in answer["error"]
    good, bad = service.predictions
    assert (good.request, good.model, good.version, good.error) == ("seen", "sums", "1", None)
    assert good.outputs is not None
    assert good.inputs["x"].tolist() == [[1, 2, 3, 4]]
    assert 0 < good.latency_ms < 10_000
    assert bad.outputs is None
    assert bad.error == answer["error"]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"\xff\xfe", "malformed"),
        (b"[1]", "Expected `object`"),
        (b"[" * 90_000, "object"),
        (b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": ' + b"[" * 90_000,
         "nested too deeply"),
        ({}, "inputs"),
        ({"inputs": []}, "'x'"),
        ({"inputs": [X, X]}, "once"),
        ({"inputs": [X | {"name": "q"}]}, "'q'"),
        ({"inputs": [X | {"datatype": "FP64"}]}, r"inputs[x].datatype"),
        ({"inputs": [X | {"shape": [1, 5]}]}, "inputs[x].shape"),
        ({"inputs": [X | {"shape": [2, 4]}]}, "inputs[x].data"),
        ({"inputs": [X | {"data": [1, 2, 3, "4"]}]}, "inputs[x].data"),
        ({"inputs": [X | {"data": 7}]}, "$.inputs[0].data"),
        ({"inputs": [X], "outputs": [{"name": "z"}]}, "'z'"),
        ({"inputs": [X], "id": 7}, "$.id"),
        ({"inputs": [X], "id": "i" * 300}, "id"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_told_what_is_wrong(service: Service, body: Any, text: str) -> None:
    service.predictions.clear()
    status, answer = service.ask("POST", INFER, body)

    assert status == 400
    assert list(answer) == ["error"]
    assert text in answer["error"]
    assert service.predictions == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 404),
        ("GET", "/v2/models", 404),
        ("POST", "/v2/repository/models/sums/load", 403),
        ("GET", "/v2/repository/index", 405),
        ("GET", "/v2/models/%ff", 400),
        ("GET", "/v2/models/absent", 404),
        ("GET", "/v2/models/sums/versions/2", 404),
        ("GET", "/v2/models/sums/versions/2/ready", 404),
        ("POST", "/v2/models/absent/infer", 404),
        ("POST", "/v2/models/sums/versions/2/infer", 404),
        ("GET", INFER, 405),
        ("POST", "/v2", 405),
        ("DELETE", "/v2/models/sums", 405),
    ],
)
def test_what_is_not_here_is_an_error_of_the_protocol(
    service: Service, method: str, path: str, status: int
) -> None:
    got, answer = service.ask(method, path)

    assert got == status
    assert list(answer) == ["error"]


def test_a_body_that_is_too_large_is_refused_and_the_connection_goes_on(service: Service) -> None:
    client = service.connect()

    assert client.ask("POST", INFER, b" " * (MAX_BODY + 1))[0] == 413
    client.request("POST", INFER, iter([b" " * 60_000] * 3), encode_chunked=True)
    answer = client.getresponse()
    answer.read()
    assert answer.status == 413
    assert client.ask("POST", INFER, {"inputs": [X]})[0] == 200
    client.close()


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("Content-Encoding", "br", 415),
        ("Inference-Header-Content-Length", "ten", 400),
        ("Inference-Header-Content-Length", "10", 400),
        ("X-Request-Timeout-Ms", "0", 400),
        ("X-Request-ID", "i" * 300, 400),
    ],
)
def test_a_header_that_is_not_understood_is_named(
    service: Service, name: str, value: str, status: int
) -> None:
    client = service.connect()
    client.request("POST", INFER, b"x", headers={name: value})
    answer = client.getresponse()

    assert answer.status == status
    assert name in json.loads(answer.read())["error"]
    client.close()


def test_clients_that_leave_in_the_middle_do_no_harm(service: Service) -> None:
    head = f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n".encode()
    for _ in range(20):
        client = socket.socket(socket.AF_UNIX)
        client.connect(service.path)
        client.sendall(head + b"{")
        client.close()

    assert service.ask("POST", INFER, {"inputs": [X]})[0] == 200


def test_bodies_in_memory_are_bounded_together(tmp_path: Path) -> None:
    index = models.install(tmp_path, models.linear_model(), name="sums")
    with serving.plane_of(tmp_path, index) as plane, tempfile.TemporaryDirectory() as short:
        listener = serving.listen(Path(short) / "s")
        server = serving.RunningServer(Rest(plane), listener, limits=Limits(held_bytes=10_000))
        server.accept()
        first = UnixConnection(f"{short}/s")
        first.putrequest("POST", INFER)
        first.putheader("Content-Length", "9000")
        first.endheaders(b" " * 8000)
        second = UnixConnection(f"{short}/s")

        statuses, deadline = set[int](), time.monotonic() + 60
        while 429 not in statuses and time.monotonic() < deadline:  # until the first is held
            statuses.add(second.ask("POST", INFER, b" " * 5000)[0])
        first.send(b" " * 1000)
        first.getresponse().read()
        after = second.ask("POST", INFER, b" " * 5000)[0]

        for client in (first, second):
            client.close()
        server.stop()
        listener.close()
    assert 429 in statuses <= {400, 429}
    assert after == 400


def test_every_error_of_serving_has_a_status() -> None:
    assert {int(status) for status in status.STATUS.values()} == {400, 404, 429, 500, 503, 504}
