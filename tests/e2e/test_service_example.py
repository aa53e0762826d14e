"""The web service is run as its README has it, on a Docker engine of the tests' own."""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import brokers, documents, engines, parts, processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

EXAMPLE = documents.ROOT / "examples" / "06_web_service"
PORT = "8090"


@pytest.fixture
def environment(engine_rig: engines.Rig, gateway_image: str) -> Iterator[dict[str, str]]:
    """Have a registry that may use an engine; give the variables that name it."""
    assert gateway_image, "what all images have in common is made before any time is measured"
    for program in ("curl", "nats-server"):
        parts.require(program)
    with contextlib.ExitStack() as ending:
        place = ending.enter_context(processes.scratch())
        registry = processes.Registry(place / "registry")
        registry.environment = {
            "PACKHORSE_DOCKER_HOST": engine_rig.url,
            "PACKHORSE_BASE_IMAGE": engines.BASE,
        }
        ending.callback(registry.stop_all)
        registry.start()
        engines.lend_images(registry.data)
        login = {"url": registry.url, "key": registry.key, "ca": registry.ca_pem}
        (place / "login.json").write_text(json.dumps(login))
        yield {
            **os.environ,
            "PACKHORSE_CONFIG": str(place / "login.json"),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }


def test_the_web_service_works_as_written(environment: dict[str, str], tmp_path: Path) -> None:
    directory = tmp_path / EXAMPLE.name
    shutil.copytree(EXAMPLE, directory, ignore=shutil.ignore_patterns("work"))
    script = "\n".join(documents.blocks(EXAMPLE / "README.md", "bash"))
    script = script.replace(PORT, str(brokers.free_port()))

    run = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script}"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )

    told = run.stdout + run.stderr
    assert run.returncode == 0, told
    assert "Traceback" not in told
    trained = dict(re.findall(r"^trained: version (\d) is off by (\S+)", run.stdout, re.MULTILINE))
    asked = re.findall(r"^version (\d): off by (\S+) here", run.stdout, re.MULTILINE)
    # As deployed, as a canary, promoted, rolled back, released: as good as where it was trained.
    assert [version for version, _ in asked] == ["1", "2", "2", "1", "2"]
    assert asked == [(version, trained[version]) for version, _ in asked]
    assert len(re.findall(r'^ +"progression": [\d.]+$', run.stdout, re.MULTILINE)) == 3
    assert (directory / "work" / "key").stat().st_mode & 0o077 == 0
