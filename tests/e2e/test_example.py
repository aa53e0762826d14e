"""The example is run as its README has it, by a newcomer's shell."""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import documents, parts

EXAMPLE = documents.ROOT / "examples" / "01_first_model"


@pytest.fixture
def short_directory() -> Iterator[Path]:
    """Give a directory whose name leaves room for a Unix socket's path; pytest's are long."""
    with tempfile.TemporaryDirectory(prefix="ph-") as made:
        yield Path(made)


def free_or_another(port: int) -> int:
    """Return the port the example uses, or any free one if a program of this machine has it."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            found: int = probe.getsockname()[1]
            return found
    return port


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_first_example_works_as_written(short_directory: Path) -> None:
    parts.require("curl")
    directory = short_directory / "01_first_model"
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("work"))
    port, broker_port = free_or_another(8443), free_or_another(8883)
    script = "\n".join(documents.blocks(EXAMPLE / "README.md", "bash"))
    environment = {
        **os.environ,
        "HOME": str(short_directory),
        "PACKHORSE_CONFIG": str(short_directory / "login.json"),
        "PACKHORSE_PORT": str(port),
        "PACKHORSE_BROKER_PORT": str(broker_port),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
    }

    # Whatever happens, what it started in the background ends with it.
    guarded = f"set -euo pipefail\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"
    run = subprocess.run(
        ["bash", "-c", guarded.replace(":8443", f":{port}")],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    told = run.stdout + run.stderr
    logs = "".join(log.read_text() for log in directory.glob("work/*.log"))
    assert run.returncode == 0, told + logs
    assert "digits:2 answers" in told
    assert '"model_version":"1"' in run.stdout
    judged = re.findall(r"^version (\d): (\d+) of (\d+) right", run.stdout, re.MULTILINE)
    (_, right_1, seen_1), (_, right_2, seen_2) = judged[-2:]
    assert [version for version, *_ in judged] == ["1", "1", "2"]
    assert int(seen_1) + int(seen_2) == 200
    assert int(right_1) / int(seen_1) < int(right_2) / int(seen_2)
