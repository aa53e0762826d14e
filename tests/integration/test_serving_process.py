"""`packhorse-runtime serve` as containers and people start it."""

import contextlib
import json
import logging
import math
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from runtime import __main__ as runtime_main
from tests.support import bundles, commands, models, parts, runtime_server
from tests.support.commands import eventually
from tests.support.runtime_server import RuntimeServer

KEY = "a-key-of-some-length"
BEARER = {"Authorization": f"Bearer {KEY}"}
X: dict[str, Any] = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
INFER = "/v2/models/m/infer"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RuntimeServer]:
    """One server with all switches on."""
    place = tmp_path_factory.mktemp("serve")
    (place / "key").write_text(KEY)
    for version in ("1", "2"):
        bundles.write(place / "repository" / "m" / version, name="m", factor=float(version))
    (place / "repository" / "broken" / "1").mkdir(parents=True)
    (place / "repository" / "broken" / "1" / "model.onnx").write_bytes(b"no graph")
    models.write(place / "slow.onnx", models.slow_model())
    made = RuntimeServer(
        *(str(place / "slow.onnx"), "--repository", str(place / "repository"), "--repository-api"),
        *("--http-port", "0", "--grpc-port", "0", "--api-key-file", str(place / "key")),
        *("--log-format", "json", "--access-log", "1", "--capture", str(place / "capture")),
        *("--capture-fraction", "1", "--max-body-mb", "1", "--timeout", "30"),
        log=place / "log",
    )
    yield made
    # Whichever of these tests this worker was given: something was predicted, and is captured.
    assert made.ask("POST", INFER, {"inputs": [X]}, BEARER).status == 200
    assert made.stop() == 0
    assert "Traceback" not in made.log.read_text()
    captured = [path.suffix for path in (place / "capture").iterdir()]
    assert captured
    assert set(captured) == {".batches"}


def test_it_says_in_one_line_what_it_serves_and_where(server: RuntimeServer) -> None:
    assert server.models == "slow:1, m:2"
    assert [place.split("://")[0] for place in server.places] == ["http", "grpc"]
    assert all(place.split(":")[1] == "//127.0.0.1" for place in server.places)


def test_only_health_is_told_without_the_key(server: RuntimeServer) -> None:
    assert server.ask("GET", "/v2/health/live").status == 200
    assert server.ask("GET", "/v2/health/ready").json == {"live": True, "ready": True}
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": KEY}):
        refused = server.ask("POST", INFER, {"inputs": [X]}, headers)
        assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert server.ask("POST", INFER, {"inputs": [X]}, BEARER).status == 200


def test_the_newest_version_answers_and_what_is_broken_is_told(server: RuntimeServer) -> None:
    answer = server.ask("POST", INFER, {"inputs": [X], "id": "7"}, BEARER | {"X-Request-ID": "q"})

    assert (answer.json["model_version"], answer.json["id"]) == ("2", "7")
    assert answer.json["outputs"][0]["data"][0] == 20
    assert answer.headers["X-Request-ID"] == "q"
    told = server.ask("POST", "/v2/repository/index", None, BEARER).json
    states = {(each["name"], each["version"]): each["state"] for each in told}
    assert states["m", "2"] == "READY"
    assert states["m", "1"] == states["broken", "1"] == "UNAVAILABLE"


def test_clients_load_and_unload_but_web_pages_do_not(server: RuntimeServer) -> None:
    page = BEARER | {"Origin": "http://elsewhere"}

    assert server.ask("POST", "/v2/repository/models/m/unload", None, page).status == 403
    assert server.ask("POST", "/v2/repository/models/broken/load", None, BEARER).status == 500
    assert server.ask("POST", "/v2/repository/models/none/load", None, BEARER).status == 404
    assert server.ask("POST", "/v2/repository/models/m/unload", None, BEARER).status == 200
    assert server.ask("GET", "/v2/models/m/ready", None, BEARER).status in {404, 503}
    assert server.ask("POST", "/v2/repository/models/m/load", None, BEARER).status == 200
    assert server.ask("POST", INFER, {"inputs": [X]}, BEARER).status == 200


def test_tables_pages_and_numbers_are_there(server: RuntimeServer) -> None:
    score = server.ask("POST", "/v2/models/m/score", {"rows": [{"x": [1, 2, 3, 4]}]}, BEARER)
    described = server.ask("GET", "/v2/models/m/openapi.json", None, BEARER)
    numbers = server.ask("GET", "/metrics", None, BEARER)

    assert score.status in {200, 400}
    assert described.json["openapi"] == "3.1.0"
    assert b'packhorse_requests_total{model="m",version="2"}' in numbers.body
    assert server.ask("GET", "/docs").headers["Content-Type"].startswith("text/html")
    stats = server.ask("GET", "/v2/models/m/stats", None, BEARER).json["model_stats"][0]
    assert stats["inference_stats"]["success"]["count"] > 0


def test_a_client_that_does_not_wait_is_told_so_in_time(server: RuntimeServer) -> None:
    slow = {"name": "x", "shape": [1, 1500], "datatype": "FP32", "data": [1.0] * 1500}
    metadata = server.ask("GET", "/v2/models/slow", None, BEARER).json["inputs"][0]
    slow["name"], slow["shape"] = metadata["name"], [max(1, n) for n in metadata["shape"]]

    late = server.ask(
        "POST", "/v2/models/slow/infer", {"inputs": [slow]}, BEARER | {"X-Request-Timeout-Ms": "1"}
    )
    later = server.ask(
        "POST",
        "/v2/models/slow/infer",
        {"inputs": [slow], "parameters": {"timeout": 1000}},
        BEARER,
    )

    assert (late.status, later.status) == (504, 504)


def test_curl_uploads_large_and_packed_bodies(server: RuntimeServer, tmp_path: Path) -> None:
    parts.require("curl")
    rows = [[1.0, 2.0, 3.0, 4.0]] * 6000
    request = {"inputs": [X | {"shape": [6000, 4], "data": rows}]}
    (tmp_path / "body").write_text(json.dumps(request))
    url = f"{server.places[0]}{INFER}"
    curl = ["curl", "-sS", "--compressed", "-H", f"Authorization: Bearer {KEY}"]

    plain = subprocess.check_output([*curl, "-d", f"@{tmp_path / 'body'}", url])
    piped = ["-H", "Transfer-Encoding: chunked", "-H", "Expect: 100-continue"]
    chunked = subprocess.check_output([*curl, *piped, "-d", f"@{tmp_path / 'body'}", url])
    subprocess.check_call(["gzip", "-k", str(tmp_path / "body")])
    packed = ["-H", "Content-Encoding: gzip", "--data-binary", f"@{tmp_path / 'body.gz'}"]
    unpacked = subprocess.check_output([*curl, *packed, url])

    assert json.loads(plain)["outputs"][0]["shape"] == [6000, 3]
    assert plain == chunked == unpacked
    big = b" " * ((1 << 20) + 1)
    assert server.ask("POST", INFER, big, BEARER).status == 413


def test_requests_are_logged_with_what_identifies_them(server: RuntimeServer) -> None:
    server.ask("POST", INFER, {"inputs": [X]}, BEARER | {"X-Request-ID": "find-me"})

    def logged() -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        return [line for line in lines if line.get("request") == "find-me"]

    eventually(lambda: bool(logged()), "the request is in the log")
    line = logged()[0]
    assert (line["event"], line["status"], line["model"]) == ("request", 200, "m")
    assert line["path"] == INFER
    assert KEY not in server.log.read_text()


def test_a_health_check_exits_with_what_it_finds(server: RuntimeServer) -> None:
    assert runtime_server.health("--url", server.places[0]) == 0
    assert runtime_server.health("--url", server.places[0], "--live") == 0
    assert runtime_server.health("--url", "http://127.0.0.1:1") == 1
    assert runtime_server.health("--url", "nowhere") == 2


@contextlib.contextmanager
def running(*arguments: str, log: Path) -> Iterator[RuntimeServer]:
    made = RuntimeServer(*arguments, log=log)
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture
def place() -> Iterator[Path]:
    with commands.scratch() as directory:
        yield directory


def test_told_to_end_it_answers_what_comes_and_says_that_it_is_not_ready(place: Path) -> None:
    models.write(place / "m.onnx", models.linear_model())
    arguments = (str(place / "m.onnx"), "--uds", str(place / "s"), "--drain-delay-s", "1.5")
    with running(*arguments, log=place / "log") as server:
        before = server.connect()
        before.request("GET", "/v2/health/ready")
        assert before.getresponse().read() == b'{"live":true,"ready":true}'

        server.signal(signal.SIGTERM)
        eventually(lambda: server.ask("GET", "/v2/health/ready").status == 503, "it is not ready")
        still = server.ask("POST", INFER, {"inputs": [X]})
        before.request("POST", INFER, json.dumps({"inputs": [X]}))
        last = before.getresponse()

        assert (still.status, still.headers["Connection"]) == (200, "close")
        assert (last.status, last.headers["Connection"]) == (200, "close")
        before.close()
        assert server.process.wait(30) == 0


def test_a_request_in_hand_is_answered_before_the_end(place: Path) -> None:
    models.write(place / "m.onnx", models.slow_model())
    arguments = (str(place / "m.onnx"), "--uds", str(place / "s"), "--access-log", "1")
    with running(*arguments, log=place / "log") as server:
        spec = server.ask("GET", "/v2/models/m").json["inputs"][0]
        shape = [max(1, size) for size in spec["shape"]]
        values = [1.0] * math.prod(shape)
        tensor = {"name": spec["name"], "shape": shape, "datatype": "FP32", "data": values}
        client = server.connect()
        client.request("POST", INFER, json.dumps({"inputs": [tensor]}))
        server.ask("GET", "/v2/health/live")  # it came later, and is answered: so the first is here

        server.signal(signal.SIGTERM)
        answer = client.getresponse()
        answer.read()
        client.close()

        assert (answer.status, answer.headers["Connection"]) == (200, "close")
        assert server.process.wait(30) == 0


def test_large_json_has_a_process_of_its_own_and_another_once_that_ended(place: Path) -> None:
    wide = {"name": "x", "shape": [1, 8192], "datatype": "FP32", "data": [0.5] * 8192}
    models.write(place / "m.onnx", models.linear_model(8192))
    with running(str(place / "m.onnx"), "--uds", str(place / "s"), log=place / "log") as server:
        [first] = psutil.Process(server.process.pid).children()
        before = server.ask("POST", INFER, {"inputs": [wide]})
        first.kill()
        after = server.ask("POST", INFER, {"inputs": [wide]})
        [second] = psutil.Process(server.process.pid).children()

        answers = [answer.json["outputs"][0]["data"] for answer in (before, after)]
        assert answers == [[4096.0] * 3] * 2
        assert second.pid != first.pid
    assert not second.is_running()


def test_small_models_take_no_second_process(place: Path) -> None:
    models.write(place / "m.onnx", models.linear_model())
    with running(str(place / "m.onnx"), "--uds", str(place / "s"), log=place / "log") as server:
        assert server.ask("POST", INFER, {"inputs": [X]}).status == 200
        assert psutil.Process(server.process.pid).children() == []


@pytest.fixture
def unlogged() -> Iterator[None]:
    """Leave the log of this process as it was."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("unlogged")
@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ([], 2, "name what to serve"),
        (["absent.onnx"], 2, "does not exist"),
        (["m.onnx", "--host", "10.0.0.1"], 2, "--api-key-file"),
        (["m.onnx", "--allow", "everything"], 2, "--allow"),
        (["bad.onnx", "--http-port", "0"], 1, "bad.onnx"),
        (["m.onnx", "--http-port", "@"], 2, "--http-port"),
        (["m.onnx", "--uds", "/nowhere/s"], 2, "--uds"),
        (["--repository", "empty", "--http-port", "0"], 2, "put models there"),
        (["--repository", "broken", "--http-port", "0"], 1, "model.onnx"),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    arguments: list[str],
    code: int,
    text: str,
) -> None:
    monkeypatch.chdir(place)
    models.write(place / "m.onnx", models.linear_model())
    (place / "bad.onnx").write_bytes(b"no graph")
    (place / "empty").mkdir()
    models.write(place / "broken" / "m" / "1" / "model.onnx", b"no graph")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])

        got = runtime_main.main(["serve", *(each.replace("@", port) for each in arguments)])

    said = capsys.readouterr()
    assert (got, said.out) == (code, "")
    last = said.err.splitlines()[-1]
    assert last.startswith("packhorse-runtime: ")
    assert text in last
    assert "Traceback" not in said.err
