"""`packhorse demo`, as a newcomer runs it."""

import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

PROGRAM = str(Path(sys.executable).parent / "packhorse")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_demo_updates_three_devices_and_loses_nothing() -> None:
    run = subprocess.run(
        [PROGRAM, "demo", "--devices", "3", "--json"],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )

    assert run.returncode == 0, run.stderr
    told = json.loads(run.stdout)
    assert told["ok"] is True, told
    assert told["devices"] == ["dev-1", "dev-2", "dev-3"]
    assert len(told["deployments"]) == 3
    records = told["records"]
    assert records["lost"] == records["duplicated"] == told["requests"]["failed"] == 0
    assert records["produced"] == records["stored"] == sum(records["by_device"].values())
    assert records["stored"] >= 900 + 120 + told["requests"]["sent"]
    assert told["requests"]["sent"] > 0
    assert 0.5 < told["accuracy"]["1"] < told["accuracy"]["2"]
    assert told["models"]["digits"]["accuracy"] == told["accuracy"]
    assert told["models"]["wrist-motion"]["accuracy"]["1"] > 0.9
    assert 0 < told["bytes"]["telemetry"] < told["bytes"]["telemetry_as_json"]
    updates = told["bytes"]["update"]
    assert set(updates) == set(told["devices"])
    assert all(0 < cost["received"] < 0.3 * cost["whole"] for cost in updates.values()), updates
    assert told["bytes"]["bundles"] > sum(cost["received"] for cost in updates.values())
    assert sum(told["steps"].values()) <= told["seconds"] + 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_demo_that_is_kept_runs_until_it_is_stopped_and_leaves_no_process(
    tmp_path: Path,
) -> None:
    """Also in a directory too deep for the address of a Unix socket."""
    directory = tmp_path / ("d" * 90)
    process = subprocess.Popen(
        [PROGRAM, "demo", "--devices", "1", "--keep", "--json", "--directory", str(directory)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    give_up = threading.Timer(280, process.kill)
    give_up.start()
    try:
        assert process.stdout is not None
        with process.stdout:
            told = json.loads(process.stdout.readline())
            assert process.poll() is None
            running = json.loads((directory / "registry" / "run" / "endpoints.json").read_text())
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        give_up.cancel()

    assert told["ok"] is True, told
    assert told["addresses"]["registry"] == running["url"]
    assert not Path(f"/proc/{running['pid']}").exists()
    assert Path(told["addresses"]["admin key"]).is_file()


def test_the_demo_does_not_write_into_a_directory_that_has_something(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")

    run = subprocess.run(
        [PROGRAM, "demo", "--directory", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert run.returncode == 1
    assert "is not empty" in run.stderr
    assert list(tmp_path.iterdir()) == [tmp_path / "mine.txt"]
