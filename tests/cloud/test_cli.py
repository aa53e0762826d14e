import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud.cli import main, words
from cloud.client import Client
from cloud.storage.blobs import key_of
from runtime import digests
from runtime.errors import InvalidError
from tests.support import bundle_sources, registries
from tests.support.brokers import eventually
from tests.support.command_line import Run
from tests.support.fleet import add_records, converge
from tests.support.registries import Registry

NOWHERE = "https://127.0.0.1:9"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path / "data") as running:
        yield running


def bundle(directory: Path, *, factor: float = 2.0) -> Path:
    return bundle_sources.write_checked_bundle(directory, factor=factor)


def test_the_version_is_told_by_a_command_and_by_the_usual_option(run: Run) -> None:
    told = run("--version").out

    assert told == run("version").out == f"{run('version', '--json').json()['version']}\n"


def test_a_model_is_pushed_once_and_shown(run: Run, tmp_path: Path) -> None:
    source = bundle(tmp_path / "scale")
    first = run("models", "push", source)
    again = run("models", "push", source)

    assert (first.code, first.out) == (0, "scale:1\n")
    assert (again.code, again.out) == (0, "scale:1\n")
    assert "0 files sent" in again.err
    assert run("models", "list", "--json").json()[0]["latest"]["version"] == 1
    assert "scale" in run("models", "list").out
    shown = run("models", "show", "scale").out
    assert shown.startswith("scale:1\n")
    assert "x FP32[-1, 4]" in shown


def test_a_second_version_sends_only_what_is_new(run: Run, tmp_path: Path) -> None:
    run("models", "push", bundle(tmp_path / "scale"))
    second = run("models", "push", bundle(tmp_path / "scale", factor=3.0))

    assert second.out == "scale:2\n"
    assert "2 files sent" in second.err
    assert "2 were there" in second.err


def test_what_is_pulled_can_be_pushed_again_as_the_same(run: Run, tmp_path: Path) -> None:
    source = bundle(tmp_path / "scale")
    (source / "run.sh").write_text("#!/bin/sh\n")
    (source / "run.sh").chmod(0o755)
    made = run("models", "push", source, "--json").json()
    run("models", "push", bundle(tmp_path / "other", factor=9.0))
    pulled = run("models", "pull", "scale:1", "-o", tmp_path / "pulled")

    assert pulled.code == 0, pulled.err
    assert (tmp_path / "pulled" / "run.sh").stat().st_mode & 0o100
    again = run("models", "push", tmp_path / "pulled", "--json").json()
    assert again["bundle"] == made["bundle"]
    assert list(tmp_path.glob(".pulled*")) == []


def test_a_pull_never_mixes_with_what_is_there(run: Run, tmp_path: Path) -> None:
    run("models", "push", bundle(tmp_path / "scale"))
    target = tmp_path / "full"
    target.mkdir()
    (target / "mine").write_text("kept")
    refused = run("models", "pull", "scale", "-o", target)

    assert refused.code == main.BAD_INPUT
    assert "new or empty" in refused.err
    assert [path.name for path in target.iterdir()] == ["mine"]


def test_a_pull_notices_bytes_that_changed_and_goes_on_once_they_are_right(
    run: Run, registry: Registry, tmp_path: Path
) -> None:
    source = bundle(tmp_path / "scale")
    run("models", "push", source)
    digest = digests.of_file(source / "model.onnx")
    stored = registry.services.settings.data / key_of(digest)
    whole = stored.read_bytes()
    stored.chmod(0o600)
    stored.write_bytes(whole[:-1] + b"?")
    spoiled = run("models", "pull", "scale", "-o", tmp_path / "pulled")

    assert spoiled.code == main.FAILED
    assert digest in spoiled.err
    assert not (tmp_path / "pulled").exists()
    stored.write_bytes(whole)
    assert run("models", "pull", "scale", "-o", tmp_path / "pulled").code == 0


def test_check_runs_the_bundles_own_check_here(run: Run, tmp_path: Path) -> None:
    source = bundle(tmp_path / "scale")
    good = run("models", "check", source, "--json").json()
    shutil.copy(source / "golden" / "inputs.npz", tmp_path)
    bundle_sources.write_model(source / "model.onnx", factor=5.0)
    bad = run("models", "check", source)

    assert good["ok"]
    assert bad.code == main.FAILED
    assert "check" in bad.err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["models", "show", "absent"], main.NOT_FOUND, "absent"),
        (["models", "show", "a:b:c"], main.BAD_INPUT, ""),
        (["models", "push", "nowhere"], main.BAD_INPUT, "nowhere"),
        (["devices", "show", "absent"], main.NOT_FOUND, "packhorse devices list"),
        (["devices", "token", "--ttl", "8d"], main.BAD_INPUT, "ttl_s"),
        (["devices", "token", "--ttl", "soon"], main.BAD_INPUT, "ttl"),
        (["devices", "token", "-l", "novalue"], main.BAD_INPUT, "KEY=VALUE"),
        (["devices", "list", "--to", "a b"], main.BAD_INPUT, "^"),
        (["deploy", "absent", "--to", "all"], main.NOT_FOUND, "packhorse models list"),
        (["deploy", "absent:X", "--to", "all"], main.BAD_INPUT, "number"),
        (["deploy", "absent"], main.BAD_INPUT, "--to"),
        (["deployments", "show", "dep-x"], main.NOT_FOUND, "packhorse deployments list"),
        (["telemetry", "stats"], main.BAD_INPUT, "--model"),
        (["nonsense"], main.BAD_INPUT, "nonsense"),
    ],
)
def test_a_mistake_is_one_clear_line_with_a_code_of_its_own(
    run: Run, arguments: list[str], code: int, words: str
) -> None:
    ran = run(*arguments)

    assert ran.code == code
    assert ran.out == ""
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_a_registry_that_is_away_has_a_code_of_its_own(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACKHORSE_URL", NOWHERE)
    monkeypatch.setattr("cloud.transport.FIRST_PAUSE_S", 0.01)
    ran = run("models", "list")

    assert ran.code == main.UNREACHABLE
    assert "is `packhorse serve` running there?" in ran.err


def test_a_registry_of_another_ca_is_not_trusted_nor_tried_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PACKHORSE_CA")
    ran = run("models", "list")

    assert ran.code == main.UNREACHABLE
    assert "--ca-fingerprint" in ran.err


def test_a_wrong_key_is_said_to_be_wrong(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKHORSE_KEY", "phk_wrong")
    ran = run("models", "list")

    assert ran.code == main.FAILED
    assert "not known here" in ran.err


def test_login_checks_and_stores_what_the_other_commands_then_use(
    run: Run, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = os.environ["PACKHORSE_URL"]
    for name in ("PACKHORSE_URL", "PACKHORSE_KEY", "PACKHORSE_CA"):
        monkeypatch.delenv(name)
    before = run("models", "list")
    monkeypatch.setattr(sys, "stdin", io.StringIO(registry.key + "\n"))
    logged = run("login", "--url", url, "--ca-fingerprint", registry.services.authority.fingerprint)
    stored = tmp_path / "config" / "login.json"

    assert before.code == main.BAD_INPUT
    assert "packhorse login" in before.err
    assert logged.code == 0, logged.err
    assert registry.key not in logged.out + logged.err
    assert stored.stat().st_mode & 0o077 == 0
    assert run("models", "list", "--json").json() == []


def test_login_refuses_another_registrys_fingerprint(run: Run, tmp_path: Path) -> None:
    url = os.environ["PACKHORSE_URL"]
    ran = run("login", "--url", url, "--ca-fingerprint", "0" * 64)

    assert ran.code == main.FAILED
    assert "not the one" in ran.err
    assert not (tmp_path / "config").exists()


def test_a_device_is_enrolled_labelled_and_revoked(run: Run, registry: Registry) -> None:
    made = run("devices", "token", "-l", "site=lab,floor=1", "--ttl", "5min")
    labels = run("devices", "token", "-l", "site=lab,floor=1", "--json").json()["labels"]
    registry.enrol("one", labels=labels)
    listed = run("devices", "list", "--to", "site=lab", "--json").json()
    run("devices", "label", "one", "floor-", "site=far", "line=2")
    shown = run("devices", "show", "one")

    assert made.out.startswith("pht_")
    assert "Works once" in made.err
    assert [each["id"] for each in listed] == ["one"]
    assert "line=2, site=far" in shown.out
    assert run("devices", "revoke", "one", "--yes").out == "one: revoked\n"
    assert "revoked" in run("devices", "list").out


def test_a_watched_deployment_ends_when_all_run_it(
    run: Run, registry: Registry, tmp_path: Path
) -> None:
    run("models", "push", bundle(tmp_path / "scale"))
    registry.enrol("one")

    def arrive() -> None:
        def found() -> list[Any]:
            items: list[Any] = registry.get("/api/v1/deployments")["items"]
            return items

        eventually(lambda: bool(found()), "a deployment")
        converge(registry, "one", found()[0])

    device = threading.Thread(target=arrive)
    device.start()
    ran = run("deploy", "scale", "--to", "all", "--watch", "--soak", "0s", "--timeout", "30s")
    device.join()

    assert ran.code == 0, ran.err
    assert ran.out.startswith("dep-")
    assert "1 running" in ran.err


def test_a_watch_that_is_not_done_in_time_says_who_is_missing(
    run: Run, registry: Registry, tmp_path: Path
) -> None:
    run("models", "push", bundle(tmp_path / "scale"))
    registry.enrol("one")
    ran = run("deploy", "scale:1", "--to", "all", "--watch", "--timeout", "0.1s")
    nobody = run("deploy", "scale:1", "--to", "site=x", "--watch", "--timeout", "0.1s")

    assert ran.code == main.TIMED_OUT
    assert "one: waiting, the device has never connected" in ran.err
    assert nobody.code == main.TIMED_OUT
    assert "no device" in nobody.err


def test_deployments_are_listed_shown_retried_and_cancelled(
    run: Run, registry: Registry, tmp_path: Path
) -> None:
    run("models", "push", bundle(tmp_path / "scale"))
    registry.enrol("one")
    made = run(
        "deploy", "scale", "--to", "all", "--source", "directory:in", "--capture-inputs", "0.1"
    ).out.strip()
    shown = run("deployments", "show", made)
    detail = run("deployments", "show", made, "--json").json()

    assert made in run("deployments", "list").out
    assert "the device has never connected" in shown.out
    assert detail["deployment"]["sources"] == ["directory:in"]
    assert detail["deployment"]["capture"]["inputs"] == 0.1
    assert run("deployments", "retry", made).out == f"{made}: attempt 1\n"
    assert run("deployments", "cancel", made).out == f"{made}: cancelled\n"
    assert run("deployments", "watch", made).code == main.FAILED


def test_telemetry_is_shown_line_by_line_and_per_version(run: Run, registry: Registry) -> None:
    registry.enrol("one")
    add_records(registry, "one", 1, [1.0, 2.0, 3.0])
    lines = run("telemetry", "tail", "-n", "2", "--no-follow", "--json").out.splitlines()
    stats = run("telemetry", "stats", "--model", "m", "--json").json()

    assert [json.loads(line)["outputs"] for line in lines] == [{"label": [1]}, {"label": [2]}]
    assert "m:1" in run("telemetry", "tail", "--no-follow").out
    assert stats["versions"][0]["records"] == 3
    assert "m:1" in run("telemetry", "stats", "--model", "m").out


def test_the_installed_command_shows_its_help_and_its_mistakes_without_a_traceback() -> None:
    command = str(Path(sys.executable).with_name("packhorse"))
    helped = subprocess.run([command, "--help"], capture_output=True, text=True, check=False)
    wrong = subprocess.run(
        [command, "serve", "--data", "/proc/nowhere", "--port", "99999"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert helped.returncode == 0
    assert "deployments" in helped.stdout
    assert wrong.returncode == main.BAD_INPUT
    assert wrong.stderr.startswith("packhorse: port: 99999 is not accepted")


def test_help_needs_no_heavy_module() -> None:
    code = (
        "import sys, cloud.cli.main;"
        "heavy = {'sqlmodel', 'fastapi', 'onnxruntime', 'numpy', 'httpx2', 'pydantic', 'paho'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr


def test_a_client_tries_again_when_the_registry_comes_back(
    registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cloud.transport.FIRST_PAUSE_S", 0.3)
    ca = registry.services.authority.ca_pem
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with Client(f"https://127.0.0.1:{port}", registry.key, ca, attempts=50) as client:
        found: list[Any] = []
        asking = threading.Thread(target=lambda: found.append(list(client.models())))
        asking.start()
        with registries.listening(registry, port=port):
            asking.join(timeout=20)
            client.close()  # an open connection would hold the shutdown up

    assert found == [[]]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30), ("30s", 30), ("1.5 min", 90), ("5m", 300), ("2h", 7200), ("1d", 86400)],
)
def test_durations_are_written_as_people_write_them(text: str, seconds: float) -> None:
    assert words.duration(text, "ttl") == seconds


@pytest.mark.parametrize("text", ["", "-1s", "1 week", "s", "1e9"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(InvalidError, match="ttl"):
        words.duration(text, "ttl")
