"""`packhorse services`, against a registry whose controller works on a target in memory."""

import json
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud.cli import completing, main, service_watching, services
from cloud.hosting.controller import Controller
from runtime.clock import SystemClock
from tests.support import command_line, hosting, registries
from tests.support.brokers import eventually
from tests.support.command_line import Run
from tests.support.hosting import Host
from tests.support.memory_target import crashed, line


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host that is looked after by itself."""
    with hosting.hosting(tmp_path_factory.mktemp("hosting")) as host:
        parts = host.registry.services
        vars(parts)["clock"] = SystemClock()
        controller, stopping = Controller(parts, parts.targets, host.maker), threading.Event()
        thread = threading.Thread(target=controller.run, args=(stopping,))
        thread.start()
        yield host
        stopping.set()
        controller.wake()
        thread.join()


@pytest.fixture
def host(shared: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(service_watching, "POLL_S", 0.05)
    monkeypatch.setattr(services, "POLL_S", 0.05)
    with hosting.alone(shared) as made:
        yield made


@pytest.fixture(scope="module")
def url(shared: Host) -> Iterator[str]:
    with registries.listening(shared.registry) as made:
        yield made


@pytest.fixture
def run(
    host: Host,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    return command_line.runner(url, host.registry, tmp_path, monkeypatch, capsys)


def deploy(run: Run, host: Host, *options: str) -> command_line.Ran:
    return run("services", "deploy", host.name, "--bundle", "scale:1", "--target", "docker",
               *options)  # fmt: skip


def test_a_service_is_deployed_shown_and_deleted(host: Host, run: Run) -> None:
    ran = deploy(run, host, "--memory", "1G", "--env", "A=1,2", "--env", "B==")
    listed, shown = run("services", "list"), run("services", "show", host.name)

    assert ran.code == 0, ran.err
    assert "endpoint  http://127.0.0.1:18080/" in ran.out
    assert "key  phs_" in ran.out
    assert "the image is being built" in ran.err
    wished = host.target.wished(host.name, 1)
    assert wished.env == {"A": "1,2", "B": "="}
    assert wished.resources.memory_mb == 1024
    assert host.name in listed.out
    assert "100 %" in shown.out
    assert "scale:1" in shown.out
    assert run("services", "delete", host.name).code == 0
    assert run("services", "show", host.name).code == main.NOT_FOUND


def test_a_container_is_registered_like_a_model_and_is_no_service(
    host: Host, run: Run, tmp_path: Path
) -> None:
    image = f"registry.example/camera@sha256:{'0' * 64}"
    (tmp_path / "camera").mkdir()
    text = f"name: camera\nkind: container\ncontainer: {{image: '{image}'}}\n"
    (tmp_path / "camera" / "bundle.yaml").write_text(text)

    assert run("models", "push", tmp_path / "camera").code == 0
    assert "container" in run("models", "show", "camera:1", "--json").out
    ran = run("services", "deploy", host.name, "--bundle", "camera:1", "--target", "docker")

    assert ran.code == main.BAD_INPUT
    assert "a container is no model" in ran.err


def test_the_same_again_changes_nothing_and_says_so(host: Host, run: Run) -> None:
    deploy(run, host)
    again = deploy(run, host)

    assert again.code == 0
    assert "nothing changes" in again.err
    assert "key" not in again.out


def test_the_first_key_goes_to_a_file_that_nobody_else_reads(
    host: Host, run: Run, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    ran = deploy(run, host, "--key-file", str(path), "--json")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text().startswith("phs_")
    assert ran.json()["key"] is None
    assert path.read_text().strip() not in ran.out + ran.err
    refused = deploy(run, host, "--key-file", str(path))
    assert (refused.code, "key-file" in refused.err) == (main.BAD_INPUT, True)


def test_secrets_come_from_files_and_variables_never_from_arguments(
    host: Host, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("from a file\n")
    monkeypatch.setenv("PASSWORD", "from a variable")
    deploy(run, host, "--secret", f"TOKEN=@{tmp_path / 'token'}", "--secret", "PASSWORD")
    refused = deploy(run, host, "--secret", "TOKEN=plain")

    assert host.target.wished(host.name, 1).secrets == {
        "TOKEN": "from a file", "PASSWORD": "from a variable",
    }  # fmt: skip
    assert refused.code == main.BAD_INPUT
    assert "TOKEN=@FILE" in refused.err
    assert "plain" not in refused.err


def test_an_update_keeps_what_is_not_given(host: Host, run: Run) -> None:
    deploy(run, host, "--cpu", "2", "--anonymous")
    ran = run("services", "update", host.name, "--memory", "512M", "--request-timeout", "5s",
              "--soak", "0s", "--json")  # fmt: skip

    assert ran.json()["changed"] == ["gateway", "revision"]
    wished = host.target.wished(host.name, 2)
    assert (wished.resources.cpu, wished.resources.memory_mb) == (2, 512)
    config = host.target.there[host.name].config
    assert (config.anonymous, config.timeout_s) == (True, 5)


def test_a_revision_that_is_rolled_back_is_a_failure_with_its_reason(host: Host, run: Run) -> None:
    deploy(run, host)
    host.target.failing[host.name, 2] = crashed()
    ran = run("services", "update", host.name, "--bundle", "scale:2", "--progress-time", "0.3s")

    assert ran.code == main.FAILED
    assert "r2: not ready within" in ran.err
    assert "CrashLoopBackOff: it ends with exit code 1" in ran.err
    assert host.target.weights(host.name)["r1"] == 100


def test_waiting_has_an_end(host: Host, run: Run) -> None:
    host.target.starting.add((host.name, 1))
    ran = deploy(run, host, "--timeout", "0.3s")

    assert ran.code == main.TIMED_OUT
    assert host.name in ran.err


def test_traffic_goes_where_it_is_sent(host: Host, run: Run) -> None:
    deploy(run, host)
    held = run("services", "update", host.name, "--bundle", "scale:2", "--strategy", "blue-green")
    assert held.code == 0
    assert "waits for `packhorse services promote`" in held.out
    shared = run("services", "traffic", host.name, "r1=90", "r2=10%")
    assert "r1=90 r2=10" in shared.out
    promoted = run("services", "promote", host.name, "--json")
    assert promoted.json()["traffic"] == {"r2": 100}
    back = run("services", "rollback", host.name)
    assert (back.code, "r1=90 r2=10" in back.out) == (0, True)
    assert run("services", "scale", host.name, "--replicas", "3").code == 0
    eventually(
        lambda: host.target.wished(host.name, 1).scale.least == 3, "three replicas are wished"
    )


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("traffic", "digits"), "REVISION=PERCENT"),
        (("traffic", "digits", "r1=much"), "REVISION=PERCENT"),
        (("traffic", "digits", "one=100"), "weights"),
        (("scale", "digits"), "say how many"),
        (("scale", "digits", "--replicas", "2", "--min", "1"), "give --replicas, or"),
        (("deploy", "digits", "--target", "docker"), "--bundle"),
        (("deploy", "digits", "--target", "moon", "--bundle", "scale"), "target.kind"),
        (("deploy", "D", "--target", "docker", "--bundle", "scale"), "name"),
        (("deploy", "d", "--target", "docker", "--bundle", "scale", "--steps", "a,b"), "steps"),
        (("deploy", "d", "--target", "docker", "--bundle", "scale", "--memory", "x"), "memory"),
        (("deploy", "d", "--target", "docker", "--bundle", "scale", "--secret", "NONE"), "NONE"),
        (("keys", "add", "digits", "app", "--burst", "3"), "--per-s"),
    ],
)  # fmt: skip
def test_bad_input_is_one_clear_line(run: Run, arguments: tuple[str, ...], why: str) -> None:
    ran = run("services", *arguments)

    assert ran.code == main.BAD_INPUT
    assert why in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_keys_are_added_listed_and_revoked(host: Host, run: Run, tmp_path: Path) -> None:
    deploy(run, host)
    made = run("services", "keys", "add", host.name, "app", "--per-s", "5").out
    assert "phs_" in made
    path = tmp_path / "other"
    assert run("services", "keys", "add", host.name, "other", "--key-file", str(path)).out == ""
    listed = run("services", "keys", "list", host.name).out
    assert "5/s, 10 at once" in listed
    assert run("services", "keys", "revoke", host.name, "app").code == 0
    names = [each["name"] for each in run("services", "keys", "list", host.name, "--json").json()]
    assert names == ["first", "other"]


def test_logs_are_shown_and_followed(host: Host, run: Run) -> None:
    deploy(run, host)
    host.target.lines = [line("r1-0", "one"), line("r1-0", "two")]
    shown = run("services", "logs", host.name, "-n", "1")
    assert shown.out == "r1-0  two\n"

    ended = threading.Timer(0.5, host.target.closed.set)
    ended.start()
    followed = run("services", "logs", host.name, "--follow", "--json")
    ended.join()
    host.target.closed.clear()
    assert [json.loads(each)["text"] for each in followed.out.splitlines()] == ["one", "two"]


def test_the_history_of_a_service_is_shown(host: Host, run: Run) -> None:
    deploy(run, host)
    eventually(
        lambda: bool(run("history", "--service", host.name, "--json").json()), "it had traffic"
    )
    shown = run("history", "--service", host.name)
    refused = run("history", "--service", host.name, "--device", "dev-a")
    then: Any = run("history", "--service", "*", "--at", "2020-01-01T00:00Z", "--json").json()

    assert "100 %" in shown.out
    assert "scale:1" in shown.out
    assert refused.code == main.BAD_INPUT
    assert then == []


def test_places_are_listed(host: Host, run: Run) -> None:
    deploy(run, host)
    eventually(lambda: "answers" in run("services", "places").out, "the place was asked")


def test_names_are_completed(host: Host, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy(run, host)
    assert completing.services(host.name[:-1]) == [host.name]
    monkeypatch.setenv("PACKHORSE_URL", "https://127.0.0.1:1")
    assert completing.services("d") == []


def test_help_needs_no_heavy_library(run: Run) -> None:
    before = set(sys.modules)

    assert run("services", "deploy", "--help").code == 0
    assert not {"docker", "kubernetes"} & (set(sys.modules) - before)
