import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent import cli, facts
from tests.support import agents
from tests.support.agents import Device

ROW = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    with agents.device() as made:
        made.start()
        first = made.bundle("first")
        made.want(first)
        made.until_running(first)
        yield made


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PACKHORSE_AGENT_")]:
        monkeypatch.delenv(name)


def run(*arguments: str | Path, text: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "edge_agent", *map(str, arguments)],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def one_line(done: "subprocess.CompletedProcess[str]") -> str:
    """Return what stood on stderr: one line, without a traceback."""
    (line,) = done.stderr.splitlines()
    assert line.startswith("packhorse-agent: ")
    return line


def test_status_shows_what_runs(device: Device) -> None:
    done = run("status", "--data", device.data)

    assert done.returncode == 0, done.stderr
    assert "dev-a: running" in done.stdout
    assert "scale: running first:1" in done.stdout


def test_status_as_json_is_one_object(device: Device) -> None:
    told = json.loads(run("status", "--json", "--data", device.data).stdout)

    assert told["running"]
    assert told["status"]["reported"]["modules"][0]["phase"] == "running"


def test_status_of_an_agent_that_does_not_run_shows_its_journal() -> None:
    with agents.device() as stopped:
        stopped.start()
        first = stopped.bundle("first")
        stopped.want(first)
        stopped.until_running(first)
        stopped.stop()

        done = run("status", "--data", stopped.data)
        told = json.loads(run("status", "--json", "--data", stopped.data).stdout)

    assert done.returncode == 3
    assert "scale: wants first:1, ran first:1" in done.stdout
    assert told["running"] is False


def test_status_of_no_agent_at_all_says_so(tmp_path: Path) -> None:
    done = run("status", "--data", tmp_path / "nowhere")

    assert done.returncode == 2
    assert "name the directory of an agent" in one_line(done)


def test_predict_answers_from_a_file_and_from_stdin(device: Device, tmp_path: Path) -> None:
    request = json.dumps({"inputs": [ROW]})
    file = tmp_path / "request.json"
    file.write_text(request)

    for done in (
        run("predict", "--data", device.data, "scale", file),
        run("predict", "--data", device.data, "scale", "-", text=request),
    ):
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["outputs"][0]["data"] == [2, 4, 6, 8]


@pytest.mark.parametrize(
    ("arguments", "text", "code", "words"),
    [
        (["scale", "-"], "nonsense", 2, "give one JSON object"),
        (["scale", "missing.json"], "", 2, "No such file"),
        (["../scale", "-"], "{}", 2, "module"),
        (["ghost", "-"], "{}", 3, "no module ghost answers"),
    ],
)
def test_predict_says_what_is_wrong(
    device: Device, arguments: list[str], text: str, code: int, words: str
) -> None:
    done = run("predict", "--data", device.data, *arguments, text=text)

    assert done.returncode == code
    assert words in one_line(done)


def test_predict_passes_a_bad_request_s_answer_on(device: Device) -> None:
    done = run("predict", "--data", device.data, "scale", "-", text='{"inputs": []}')

    assert done.returncode == 2
    assert "error" in json.loads(done.stdout)


def test_a_device_that_is_not_enrolled_does_not_run(tmp_path: Path) -> None:
    done = run("run", "--data", tmp_path)

    assert done.returncode == 2
    assert "packhorse-agent enrol" in one_line(done)


def test_a_second_run_on_the_same_directory_is_refused(device: Device) -> None:
    done = run("run", "--data", device.data)

    assert done.returncode == 2
    assert device.process is not None
    assert f"process {device.process.pid}" in one_line(done)


def test_a_device_whose_identity_is_damaged_infers_all_the_same() -> None:
    with agents.device() as broken:
        broken.start()
        first = broken.bundle("first")
        broken.want(first)
        broken.until_running(first)
        broken.stop()
        (broken.data / "identity.json").write_text("{")

        child = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "run", "--data", str(broken.data)],
            stderr=subprocess.PIPE,
        )
        try:
            broken.until(lambda: broken.infer([1, 2, 3, 4]) == [2, 4, 6, 8], "it answers", 30.0)
            (trouble,) = [text for text in broken.status().troubles if "identity" in text]
            assert "enrol this device again" in trouble
        finally:
            child.terminate()
            child.communicate(timeout=20)
        assert child.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["enrol", "--url", "https://localhost:1", "--token", "wrong"], "token"),
        (["enrol", "--url", "https://localhost:1"], "PACKHORSE_AGENT_TOKEN"),
        (["enrol", "--url", "https://localhost:1", "--token-file", "nowhere"], "nowhere"),
        (["run", "--config", "nowhere.toml"], "name a file that exists"),
    ],
)
def test_bad_arguments_are_named(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = run(*arguments, "--data", tmp_path)

    assert done.returncode == 2
    assert words in one_line(done)


def test_a_token_is_never_shown(tmp_path: Path) -> None:
    secret = "pht_" + "s" * 30
    done = run("enrol", "--url", "https://localhost:1", "--data", tmp_path, "--token", secret)

    assert secret not in done.stderr + done.stdout


def test_a_registry_that_is_not_there_is_a_failure_not_a_mistake(tmp_path: Path) -> None:
    token = "pht_" + "s" * 30 + "." + "0" * 64
    file = tmp_path / "token"
    file.write_text(token + "\n")

    done = run("enrol", "--url", "https://localhost:1", "--data", tmp_path, "--token-file", file)

    assert done.returncode == 1
    assert "could not be reached" in one_line(done)


def test_a_wrong_setting_is_named(tmp_path: Path) -> None:
    (tmp_path / "agent.toml").write_text("heartbeet_s = 3\n")

    done = run("run", "--data", tmp_path)

    assert done.returncode == 2
    assert "did you mean heartbeat_s?" in one_line(done)


def test_version_and_help_are_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version"]) == 0
    assert capsys.readouterr().out.strip() == facts.agent_version()
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out.strip() == facts.agent_version()
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--help"])
    assert "enrol" in capsys.readouterr().out


def test_the_supervisor_imports_nothing_heavy() -> None:
    code = (
        "import sys, edge_agent.cli, edge_agent.process;"
        "heavy = {'numpy', 'onnxruntime', 'cryptography', 'uvicorn', 'pydantic', 'yaml',"
        " 'asyncio', 'PIL', 'httpx'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
