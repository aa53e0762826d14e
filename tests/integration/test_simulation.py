"""`packhorse simulate`, as a user runs it: real registry, real broker, real connections."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cloud import shapes
from cloud.cli.pushing import push
from cloud.simulation import bundles
from cloud.simulation.crowd import Crowd
from cloud.simulation.run import Wish, run
from cloud.simulation.stage import Stage
from tests.support.processes import Registry, eventually

PROGRAM = Path(sys.executable).with_name("packhorse")
TIMEOUT_S = 120.0


def simulate(*arguments: str) -> tuple[int, dict[str, Any], str]:
    done = subprocess.run(
        [PROGRAM, "simulate", "--json", "--timeout", str(TIMEOUT_S), *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S + 60,
        check=False,
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return done.returncode, found, done.stderr


@pytest.fixture(scope="module")
def suffering() -> tuple[int, dict[str, Any], str]:
    profiles = ("latency=0.2", "cut=0.1", "reboot=0.2", "slow-disk=0.2", "failing-check=0.1")
    wanted = [word for profile in profiles for word in ("--profile", profile)]
    return simulate("--devices", "20", "--seed", "3", *wanted)


def test_a_fleet_on_a_bad_day_ends_on_the_second_version_but_where_its_check_fails(
    suffering: tuple[int, dict[str, Any], str],
) -> None:
    code, found, said = suffering

    assert (found["devices"], found["converged"], found["refused"]) == (20, 18, 2), said
    assert found["stuck"] == 0
    assert code == 1, "not every device ended on the second version"


def test_the_account_says_what_became_of_the_devices_of_each_profile(
    suffering: tuple[int, dict[str, Any], str],
) -> None:
    _, found, _ = suffering

    assert {name: some["devices"] for name, some in found["profiles"].items()} == {
        "latency": 4,
        "cut": 2,
        "reboot": 4,
        "slow-disk": 4,
        "failing-check": 2,
    }
    assert found["profiles"]["failing-check"]["refused"] == 2
    assert found["profiles"]["reboot"]["faults"] > 0
    assert found["profiles"]["reboot"]["connects"] > 4
    assert found["messages"] > 20 * 10
    assert found["bytes_per_device"] > 2 * 60_000, "two versions were downloaded"


class Restarter:
    """Kills the broker under a fleet that is connected, and counts how it comes back."""

    def __init__(self) -> None:
        self.returns: Counter[int] = Counter()
        self.devices = 0

    def __call__(self, stage: Stage, crowd: Crowd) -> None:
        before = crowd.count()
        self.devices = before.devices
        os.kill(broker_pid(stage), signal.SIGKILL)
        eventually(lambda: crowd.count().connected < before.devices / 2, "the broker is gone")
        began, seen = time.monotonic(), before.connects

        def all_back() -> bool:
            nonlocal seen
            now = crowd.count()
            self.returns[int((time.monotonic() - began) * 4)] += now.connects - seen
            seen = now.connects
            return now.connected == now.devices

        eventually(all_back, "all come back", timeout_s=60.0)


def broker_pid(stage: Stage) -> int:
    config = str(stage.settings.data / "broker")
    found = [
        int(process.name)
        for process in Path("/proc").iterdir()
        if process.name.isdigit() and config in command_line(process)
    ]
    assert len(found) == 1
    return found[0]


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def test_a_broker_that_restarts_under_a_hundred_devices_sees_no_herd_and_all_converge() -> None:
    """elastic-agent, mosquitto: all agents return in one minute after a broker restart."""
    restarter, said = Restarter(), list[str]()
    found = run(Wish(devices=100, profiles={}, timeout_s=TIMEOUT_S, between=restarter), said.append)

    assert found["converged"] == 100, said
    assert sum(restarter.returns.values()) == 100, "each came back once"
    assert max(restarter.returns.values()) <= 50, f"quarters of a second: {restarter.returns}"


def test_a_fleet_enrols_by_tokens_at_a_registry_that_runs_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Registry(tmp_path / "registry")
    registry.start()
    try:
        with registry.client() as client:
            push(client, bundles.write(tmp_path / "bundle", 1, seed=0))
            client.deploy(shapes.NewDeployment(model=bundles.MODEL, selector="site=simulated"))
        (tmp_path / "ca.pem").write_text(registry.ca_pem)
        monkeypatch.setenv("PACKHORSE_URL", registry.url)
        monkeypatch.setenv("PACKHORSE_KEY", registry.key)
        monkeypatch.setenv("PACKHORSE_CA", str(tmp_path / "ca.pem"))

        code, found, said = simulate("--devices", "4", "--registry", registry.url)
    finally:
        registry.stop_all()

    assert (code, found["converged"]) == (0, 4), said


def test_tokens_that_do_not_suffice_are_refused_before_anything_starts() -> None:
    done = subprocess.run(
        [PROGRAM, "simulate", "--devices", "2", "--registry", "https://x", "--token", "t"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 2
    assert "one for each of 2 devices" in done.stderr
