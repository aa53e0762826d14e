"""The whole way: from the command line through the registry to containers that answer."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud.cli import service_watching, services
from cloud.hosting.controller import Controller
from cloud.images.opening import open_maker
from runtime.clock import SystemClock
from tests.support import bundle_sources, command_line, engines, registries
from tests.support.asking import asking
from tests.support.brokers import eventually
from tests.support.command_line import Run
from tests.support.registries import Registry

pytestmark = pytest.mark.timeout(600)

BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
).encode()


@pytest.fixture
def registry(tmp_path: Path, engine_rig: engines.Rig, gateway_image: str) -> Iterator[Registry]:
    """A registry that takes care of services on a real engine."""
    assert gateway_image  # the base image is there, and what is installed on it is kept
    chosen = {"docker_host": engine_rig.url, "base_image": engines.BASE}
    with registries.running(tmp_path / "data", **chosen) as running:
        parts = running.services
        vars(parts)["clock"] = SystemClock()
        keep = engines.CACHE / "images"
        keep.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "images").symlink_to(keep)
        maker = open_maker(parts)
        controller, stopping = Controller(parts, parts.targets, maker), threading.Event()
        thread = threading.Thread(target=controller.run, args=(stopping,))
        thread.start()
        yield running
        stopping.set()
        controller.wake()
        thread.join()
        parts.targets.close()
        maker.close()


@pytest.fixture
def run(
    registry: Registry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    monkeypatch.setattr(service_watching, "POLL_S", 0.1)
    monkeypatch.setattr(services, "POLL_S", 0.1)
    with command_line.logged_in(registry, tmp_path, monkeypatch, capsys) as packhorse:
        yield packhorse


def push(run: Run, place: Path, factor: float) -> None:
    made = bundle_sources.write_checked_bundle(place / str(factor), factor=factor)
    ran = run("models", "push", made)
    assert ran.code == 0, ran.err


def test_a_model_is_served_updated_rolled_back_and_deleted_without_a_failed_request(
    run: Run, tmp_path: Path
) -> None:
    push(run, tmp_path, 2.0)
    key = tmp_path / "key"
    made = run("services", "deploy", "digits", "--bundle", "scale:1", "--target", "docker",
               "--key-file", key, "--json", "--timeout", "3min")  # fmt: skip
    assert made.code == 0, made.err
    endpoint = made.json()["service"]["endpoints"][0]
    headers = {
        "Authorization": f"Bearer {key.read_text().strip()}", "Content-Type": "application/json",
    }  # fmt: skip

    with asking(endpoint, headers=headers, body=BODY, clients=2) as load:
        eventually(lambda: outputs(load.last) == [2, 4, 6, 8], "the first version answers")
        push(run, tmp_path, 3.0)
        updated = run("services", "update", "digits", "--bundle", "scale:2", "--strategy", "canary",
                      "--steps", "50,100", "--step-time", "1s", "--min-requests", "20",
                      "--max-p95-ratio", "1000", "--soak", "60s")  # fmt: skip
        assert updated.code == 0, updated.err
        eventually(lambda: outputs(load.last) == [3, 6, 9, 12], "the second version answers")
        back = run("services", "rollback", "digits")
        assert back.code == 0, back.err
        eventually(lambda: outputs(load.last) == [2, 4, 6, 8], "the first version answers again")
    logs = run("services", "logs", "digits")
    history: Any = run("history", "--service", "digits", "--json").json()
    deleted = run("services", "delete", "digits")

    assert load.failures == []
    assert logs.out
    assert {each["weight"] for each in history} == {50, 100}
    assert deleted.code == 0, deleted.err


def outputs(answer: Any) -> Any:
    return None if answer is None else answer["outputs"][0]["data"]
