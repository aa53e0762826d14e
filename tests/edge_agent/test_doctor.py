"""What the doctor finds, on devices in all states, without a registry."""

import json
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from edge_agent import cli
from edge_agent.doctor import examine, machine, reach
from edge_agent.doctor.findings import Finding, Level
from edge_agent.enrol import Identity
from runtime import files
from tests.support import filesystems

NOW = 1_800_000_000.0


def by_area(found: list[Finding] | tuple[Finding, ...]) -> dict[str, Finding]:
    """The worst finding of each area."""
    order = list(Level)
    worst: dict[str, Finding] = {}
    for each in found:
        old = worst.get(each.area)
        if old is None or order.index(each.level) > order.index(old.level):
            worst[each.area] = each
    return worst


def identity(port: int, *, host: str = "127.0.0.1", until: float = NOW + 1e8) -> Identity:
    return Identity("dev-a", f"https://{host}:{port}", host, port, "f" * 64, until)


def test_a_device_that_is_not_enrolled_and_offline_is_looked_at_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["doctor", "--data", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    areas = {each["area"]: each for each in told["findings"]}

    assert told["healthy"]
    assert {"python", "settings", "disk", "memory", "clock", "inference", "containers"} <= set(
        areas
    )
    assert areas["identity"]["level"] == "warning"
    assert "packhorse-agent enrol" in areas["identity"]["do"]


def test_every_finding_that_is_not_well_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "agent.toml").write_text("heartbeat = 3\n")
    (tmp_path / "identity.json").write_text("{")
    found = examine.examine(tmp_path, environment={}, now=0.0)

    assert not found.healthy
    assert all(bool(each.do) == (each.level is not Level.OK) for each in found.findings)
    worst = by_area(found.findings)
    assert worst["settings"].level is Level.BROKEN
    assert "did you mean heartbeat_s?" in worst["settings"].text
    assert worst["identity"].level is Level.BROKEN
    assert "which cannot be" in worst["clock"].text
    assert cli.main(["doctor", "--data", str(tmp_path)]) == 1
    assert "-> enrol this device again with --force" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("until", "level", "words"),
    [
        (NOW + 1e8, Level.OK, "good until"),
        (NOW + 86_400, Level.WARNING, "expires"),
        (NOW - 1, Level.BROKEN, "expired"),
    ],
)
def test_a_certificate_is_told_before_it_ends(
    tmp_path: Path, until: float, level: Level, words: str
) -> None:
    (finding,) = reach.certificate(tmp_path, identity(1, until=until), NOW)

    assert (finding.level, words in finding.text) == (level, True)


def test_a_key_that_others_can_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "identity").mkdir()
    key = tmp_path / "identity" / "device.key"
    key.write_text("x")
    key.chmod(0o644)

    assert "chmod 600" in reach.certificate(tmp_path, identity(1), NOW)[-1].do


def test_a_key_of_another_certificate_is_told(tmp_path: Path) -> None:
    directory = files.make_directory(tmp_path / "identity")
    for name in ("ca.pem", "device.pem", "device.key"):
        (directory / name).write_text("-----BEGIN NOTHING-----\n")
    files.write_json(tmp_path / "identity.json", asdict(identity(1)))

    assert by_area(reach.look(tmp_path, NOW))["certificate"].level is Level.BROKEN


def test_each_step_of_the_way_is_told_by_itself() -> None:
    context = ssl.create_default_context()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    (refused,) = reach.reach("broker", "127.0.0.1", port, context)
    (nameless,) = reach.reach("broker", "no-such-host.invalid", 1, context)

    assert "takes no connection" in refused.text
    assert "firewall" in refused.do
    assert "no-such-host.invalid has no address" in nameless.text


@pytest.fixture
def plain_port() -> Iterator[int]:
    """A server that speaks no TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            caller, _ = listener.accept()
            with caller:
                caller.recv(100)
                caller.sendall(b"SSH-2.0-x\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(10)


def test_a_server_that_is_no_registry_is_told(plain_port: int) -> None:
    (finding,) = reach.reach("registry", "127.0.0.1", plain_port, ssl.create_default_context())

    assert "no TLS with it" in finding.text


@pytest.mark.parametrize(
    ("off_s", "level"), [(0.0, Level.OK), (-200.0, Level.OK), (86_400.0, Level.WARNING)]
)
def test_a_clock_that_differs_from_the_registrys_is_told(off_s: float, level: Level) -> None:
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(NOW - off_s))
    (finding,) = reach.skew(date, NOW)

    assert finding.level is level


def test_a_date_that_is_none_says_nothing() -> None:
    assert reach.skew("yesterday", NOW) == []
    assert reach.skew("", NOW) == []


def test_too_little_room_is_told_before_it_hurts(tmp_path: Path) -> None:
    free_mb = files.free_bytes(tmp_path) >> 20

    assert machine.disk(tmp_path, 1)[0].level is Level.OK
    assert machine.disk(tmp_path, free_mb * 3 // 4)[0].level is Level.WARNING
    assert machine.disk(tmp_path, free_mb * 2)[0].level is Level.BROKEN
    assert machine.disk(tmp_path / "not" / "yet", 1)[0].level is Level.OK


def test_a_disk_that_is_read_only_is_told() -> None:
    with filesystems.of_size(megabytes=1) as place:
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        (finding,) = machine.disk(place, 1)

    assert (finding.level, "read-only" in finding.text) == (Level.BROKEN, True)


def test_little_memory_is_told(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 300000 kB\nMemAvailable: 30000 kB\n")

    assert machine.memory(tmp_path).level is Level.WARNING
    assert machine.memory(tmp_path / "none").level is Level.WARNING


def test_a_python_that_nobody_tests_with_is_told() -> None:
    assert machine.python((3, 10)).level is Level.OK
    assert machine.python((3, 9)).level is Level.WARNING
    assert machine.python((3, 14)).level is Level.WARNING


def test_an_engine_that_does_not_answer_is_told(tmp_path: Path) -> None:
    """The socket is there, nobody is behind it."""
    path = tmp_path / "run/podman/podman.sock"
    path.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    finding = machine.containers(tmp_path, {})

    assert finding.level is Level.WARNING
    assert f"{path}: nothing listens there" in finding.text
    assert machine.containers(tmp_path / "elsewhere", {}).level is Level.OK


def test_the_engine_of_the_agents_own_setting_is_looked_at_and_no_other(tmp_path: Path) -> None:
    missing = f"unix://{tmp_path}/nowhere.sock"
    (tmp_path / "agent.toml").write_text(f'engine_url = "{missing}"\n')
    found = examine.examine(tmp_path, environment={"DOCKER_HOST": "unix:///elsewhere"}, now=NOW)
    finding = by_area(found.findings)["containers"]

    assert finding.level is Level.BROKEN
    assert f"engine_url: connect to the engine at {missing}: there is no such" in finding.text
    assert "agent.toml" in finding.do


def test_a_jetson_whose_gpu_is_not_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "nv_tegra_release").write_text("# R36 (release), REVISION: 4.3\n")

    assert machine.inference(tmp_path).level is Level.WARNING
