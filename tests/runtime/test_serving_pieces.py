"""What REST gives beside JSON for JSON: streams, packed answers, the binary extension."""

import gzip
import http.client
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from runtime.serving.dataplane import DataPlane
from runtime.serving.rest.app import Rest
from tests.support import predictors, serving
from tests.support.serving import UnixConnection


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        plane = DataPlane()
        plane.add("echo", "1", predictors.Echo())
        plane.add("counter", "1", predictors.Counter())
        listener = serving.listen(Path(name) / "s")
        server = serving.RunningServer(Rest(plane), listener)
        server.accept()
        yield Path(name) / "s"
        server.stop()
        listener.close()
        plane.close()


def post(
    path: Path, model: str, body: bytes, headers: dict[str, str]
) -> tuple[http.client.HTTPResponse, bytes]:
    client = UnixConnection(str(path))
    try:
        client.request("POST", f"/v2/models/{model}/infer", body, headers)
        answer = client.getresponse()
        return answer, answer.read()
    finally:
        client.close()


def request(values: Any, **rest: Any) -> bytes:
    array = np.array(values, np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": array.shape, "data": array.tolist()}
    return json.dumps({"inputs": [tensor], **rest}).encode()


def values(event: bytes) -> Any:
    return json.loads(event.removeprefix(b"data: "))["outputs"][0]["data"]


def test_a_model_that_streams_answers_in_events(path: Path) -> None:
    answer, body = post(path, "counter", request([1, 2, 3, 4], id="7"), {})

    assert answer.headers["Content-Type"] == "text/event-stream"
    events = body.strip().split(b"\n\n")
    assert [values(event)[0] for event in events] == [1, 2, 3]
    assert all(b'"id":"7"' in event for event in events)


def test_a_stream_that_fails_says_so_in_its_last_event(path: Path) -> None:
    answer, body = post(path, "counter", request([-1, 2, 3, 4]), {})

    *pieces, last = body.strip().split(b"\n\n")
    assert (answer.status, len(pieces)) == (200, 3)
    assert last == b'event: error\ndata: {"error":"it counts upwards alone"}'


def test_an_answer_is_packed_if_that_is_asked_for_and_worth_it(path: Path) -> None:
    rows = np.zeros(8000)
    packed, body = post(path, "echo", request(rows), {"Accept-Encoding": "gzip"})
    small, _ = post(path, "echo", request(rows[:1]), {"Accept-Encoding": "gzip"})
    plain, whole = post(path, "echo", request(rows), {})

    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == whole
    assert small.headers["Content-Encoding"] is plain.headers["Content-Encoding"] is None


@pytest.mark.parametrize("rows", [1, 100_000])
@pytest.mark.parametrize("coding", [None, "gzip"])
def test_tensors_travel_as_bytes_both_ways(path: Path, rows: int, coding: str | None) -> None:
    x = np.arange(4 * rows, dtype=np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": x.shape}
    tensor["parameters"] = {"binary_data_size": x.nbytes}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    body = head + x.tobytes()
    if coding is not None:
        headers["Content-Encoding"], body = coding, gzip.compress(body, 1)

    answer, got = post(path, "echo", body, headers)

    length = int(answer.headers["Inference-Header-Content-Length"])
    said = json.loads(got[:length])["outputs"][0]
    assert said["parameters"] == {"binary_data_size": x.nbytes}
    np.testing.assert_array_equal(np.frombuffer(got[length:], np.float32).reshape(said["shape"]), x)
