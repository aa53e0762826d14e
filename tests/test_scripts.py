"""The scripts behind `make`, as far as they decide something."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support.documents import ROOT

PASSED = '<testcase classname="t" name="a"/>'
SKIPPED = '<testcase classname="t" name="b"><skipped message="no mosquitto"/></testcase>'


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        list(argv), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("cases", "code", "said"),
    [
        (PASSED, 0, "no test was skipped"),
        (PASSED + SKIPPED, 1, "skipped: t.b: no mosquitto"),
        ("", 1, "no test ran"),
    ],
)
def test_ci_fails_on_a_skip_and_on_a_report_without_tests(
    tmp_path: Path, cases: str, code: int, said: str
) -> None:
    report = tmp_path / "report.xml"
    report.write_text(f"<testsuites><testsuite>{cases}</testsuite></testsuites>")

    done = run(sys.executable, "scripts/fail_on_skips.py", str(report))

    assert done.returncode == code
    assert said in done.stdout + done.stderr


def test_a_python_that_is_found_runs_and_is_new_enough() -> None:
    found = run("scripts/find-python")

    assert found.returncode == 0, found.stderr
    version = run(found.stdout.strip(), "-c", "import sys; print(*sys.version_info[:2])")
    assert tuple(map(int, version.stdout.split())) >= (3, 11)


def test_a_python_that_is_not_there_is_named() -> None:
    found = run("scripts/find-python", "3.99")

    assert found.returncode == 1
    assert "no Python 3.99" in found.stderr


@pytest.mark.parametrize(
    "script",
    [".ci/run", *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "scripts").glob("*.sh"))],
)
def test_every_shell_script_is_executable_and_stops_at_its_first_error(script: str) -> None:
    text = (ROOT / script).read_text("utf-8")

    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert (ROOT / script).stat().st_mode & 0o111
    assert run("bash", "-n", script).returncode == 0


def test_test_files_go_where_the_environment_says() -> None:
    assert run("env", "TMPDIR=/var/tmp", "scripts/find-scratch").stdout == "/var/tmp\n"


def test_test_files_go_to_a_directory_that_is_there_and_runs_programs() -> None:
    found = run("env", "--unset=TMPDIR", "scripts/find-scratch").stdout.rstrip("\n")

    with tempfile.TemporaryDirectory(dir=found) as place:
        program = Path(place) / "program"
        program.write_text("#!/bin/sh\necho it runs\n")
        program.chmod(0o700)
        assert run(str(program)).stdout == "it runs\n"
