"""`packhorse simulate`, as a user runs it: real registry, real broker, real connections."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cloud import shapes
from cloud.cli.main import app
from cloud.cli.pushing import push
from cloud.simulation import bundles
from runtime.errors import InvalidError
from tests.support.processes import Registry, eventually

PROGRAM = Path(sys.executable).with_name("packhorse")
TIMEOUT_S = 240.0
pytestmark = pytest.mark.timeout(600)


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


PROFILES = {
    "latency": 0.1,
    "satellite": 0.1,
    "3g": 0.1,
    "cut": 0.05,
    "off-on": 0.1,
    "reboot": 0.05,
    "reboot-storm": 0.3,
    "slow-disk": 0.1,
    "disk-full": 0.1,
    "clock-jump": 0.1,
    "failing-check": 0.05,
}
DEVICES = 40


@pytest.fixture(scope="module")
def suffering() -> tuple[int, dict[str, Any], str]:
    wanted = [f"--profile={name}={fraction}" for name, fraction in PROFILES.items()]
    records = ("--records-per-s", "0.05")
    return simulate("--devices", str(DEVICES), "--seed", "3", *wanted, *records)


def test_a_fleet_on_a_bad_day_ends_on_the_second_version_but_where_its_check_fails(
    suffering: tuple[int, dict[str, Any], str],
) -> None:
    code, found, said = suffering

    assert (found["devices"], found["converged"], found["refused"]) == (DEVICES, DEVICES - 2, 2), (
        said
    )
    assert (found["stuck"], found["without_version"]) == (0, 0)
    assert code == 1, "not every device ended on the second version"


def test_a_fleet_on_a_bad_day_tells_the_end_of_each_deployment_once_and_loses_no_record(
    suffering: tuple[int, dict[str, Any], str],
) -> None:
    _, found, said = suffering
    records = found["records"]

    assert found["final_reports"] == {"once": 2 * DEVICES, "never": 0, "more": 0}, said
    assert records["made"] == records["stored"] > 0
    assert (records["lost"], records["twice"], records["waiting"]) == (0, 0, 0)


def test_the_account_says_what_happened_to_the_devices_of_each_profile(
    suffering: tuple[int, dict[str, Any], str],
) -> None:
    _, found, _ = suffering
    profiles = found["profiles"]

    assert {name: some["devices"] for name, some in profiles.items()} == {
        name: round(fraction * DEVICES) for name, fraction in PROFILES.items()
    }
    assert {name for name, some in profiles.items() if not some["faults"].get(name)} == set()
    assert profiles["failing-check"]["refused"] == 2
    assert profiles["reboot"]["connects"] > profiles["reboot"]["devices"]
    assert [blow["what"] for blow in found["blows"]] == ["storm", "storm"]
    assert all(blow["lost"] > 0 for blow in found["blows"])
    assert found["messages"] > DEVICES * 10
    assert found["bytes_per_device"] > 2 * 60_000, "two versions were downloaded"


def test_a_broker_that_is_killed_under_a_hundred_devices_sees_no_herd_and_all_converge() -> None:
    """elastic-agent, mosquitto: all agents return in one minute after a broker restart."""
    code, found, said = simulate("--devices", "100", "--restart", "broker")

    (blow,) = found["blows"]
    assert (code, found["converged"]) == (0, 100), said
    assert (blow["what"], found["connects"]) == ("broker", 200), "each came back once"
    assert blow["lost"] == 100
    assert 10 <= blow["most_tries_per_s"] <= 80, "spread over two seconds"


def test_as_many_versions_are_deployed_one_after_the_other_as_were_asked_for() -> None:
    code, found, said = simulate("--devices", "3", "--deployments", "3")

    assert (code, found["converged"]) == (0, 3), said
    assert found["final_reports"] == {"once": 9, "never": 0, "more": 0}
    for kind in ("published_s", "acknowledged_s", "converged_s"):
        assert list(found[kind]) == ["first", "second", "third"]


def test_whoever_stops_a_simulation_finds_nothing_of_it_left(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [PROGRAM, "simulate", "--devices", "3", "--json", "--records-per-s", "1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    eventually(lambda: len(of_place(tmp_path)) >= 2, "registry and broker run", TIMEOUT_S)

    child.terminate()
    printed, said = child.communicate(timeout=TIMEOUT_S)

    assert (child.returncode, printed) == (1, "")
    assert said.endswith("stopped: nothing was counted\n")
    assert list(tmp_path.iterdir()) == []
    eventually(lambda: of_place(tmp_path) == [], "nothing runs any more")


def of_place(place: Path) -> list[str]:
    """Return the processes that were given something below a directory."""
    lines = [command_line(each) for each in Path("/proc").iterdir() if each.name.isdigit()]
    return [line for line in lines if str(place) in line]


def command_line(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--profile", "cat=0.1"], "latency, loss"),
        (["--restart", "cat"], "broker, registry"),
        (["--restart", "broker", "--registry", "https://x"], "leave out --registry"),
        (["--deployments", "3", "--registry", "https://x"], "leave out --registry"),
        (["--devices", "9000", "--processes", "1"], "at least 3"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_before_anything_starts(
    words: list[str], told: str
) -> None:
    done = CliRunner().invoke(app, ["simulate", *words])

    assert isinstance(done.exception, InvalidError)
    assert told in str(done.exception)


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
