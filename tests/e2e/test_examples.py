"""The other examples are run as their READMEs have them, against one registry and one device."""

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

from tests.support import (
    brokers,
    containerboxes,
    documents,
    engines,
    imageregistry,
    parts,
    processes,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

EXAMPLES = documents.ROOT / "examples"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Have a registry and a device that allow pickles; give the variables that name them."""
    parts.require("nats-server")
    with processes.scratch() as place, contextlib.ExitStack() as ending:
        registry = processes.Registry(place / "registry")
        registry.environment = {"PACKHORSE_ALLOW": "pickle"}
        ending.callback(registry.stop_all)
        registry.start()
        settings = {
            "PACKHORSE_AGENT_ALLOW": '["pickle"]',
            "PACKHORSE_AGENT_ENGINE_URL": engines.place().url,
        }
        agent = processes.Agent(
            place / "dev-1", registry, "dev-1", labels={"site": "lab"}, settings=settings
        )
        agent.enrol()
        ending.callback(containerboxes.clear_shared, "station")
        ending.callback(agent.stop)
        agent.start()
        login = {"url": registry.url, "key": registry.key, "ca": registry.ca_pem}
        (place / "login.json").write_text(json.dumps(login))
        yield {
            **os.environ,
            "PACKHORSE_CONFIG": str(place / "login.json"),
            "PACKHORSE_AGENT_DATA": str(agent.data),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        }


@pytest.mark.parametrize(
    ("name", "answers"), [("02_scikit_learn", 2), ("03_xgboost", 1), ("04_lightgbm", 1)]
)
def test_an_example_is_as_good_on_the_device_as_where_it_was_trained(
    environment: dict[str, str], tmp_path: Path, name: str, answers: int
) -> None:
    run = followed(name, tmp_path, environment, {})

    figures = re.findall(r"version \d+: \w+ (\S+) here, (\S+) where trained", run.stdout)
    trained = re.findall(r"^trained: \w+ (\S+) on", run.stdout, re.MULTILINE)
    assert figures == [(trained[0], trained[0])] * answers


def test_a_container_is_deployed_updated_and_refused_as_written(
    environment: dict[str, str], engine_rig: engines.Rig, tmp_path: Path
) -> None:
    parts.require("docker")
    (tmp_path / "images").mkdir()
    with imageregistry.serving(tmp_path / "images") as images:
        run = followed(
            "07_container",
            tmp_path,
            {**environment, "DOCKER_HOST": engine_rig.url, "DOCKER_BUILDKIT": "0"},
            {
                "docker build": f"docker build --build-arg BASE={engines.BASE}",
                "127.0.0.1:5000": images.repository("").rstrip("/"),
                "8095": str(brokers.free_port()),
            },
        )

    readings = re.findall(r"^reading (\d): ([\d.]+) (\w+)$", run.stdout, re.MULTILINE)
    assert readings == [
        ("1", "291.00", "kelvin"),
        ("2", "18.85", "celsius"),
        ("3", "19.85", "celsius"),
    ]
    assert "not deployed, as it should be" in run.stdout
    why = "container main ended with code 1; it said last: no unit celcius: use celsius or kelvin"
    assert why in run.stdout + run.stderr


def followed(
    name: str, place: Path, environment: dict[str, str], changes: dict[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Do what an example's README says; `changes` are what is called otherwise on this machine."""
    directory = place / name
    shutil.copytree(EXAMPLES / name, directory, ignore=shutil.ignore_patterns("work"))
    script = "\n".join(documents.blocks(EXAMPLES / name / "README.md", "bash"))
    for written, here in changes.items():
        script = script.replace(written, here)
    run = subprocess.run(
        ["bash", "-c", f"set -euo pipefail\n{script}"],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Traceback" not in run.stdout + run.stderr
    return run
