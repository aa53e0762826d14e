"""A registry is restored from a backup, into other stores, while devices have gone on."""

from pathlib import Path

import pytest

from cloud.client import Client
from cloud.shapes import NewDeployment
from tests.support import bundles, parts, processes
from tests.support.commands import Command
from tests.support.processes import Agent, Registry, eventually
from tests.support.registries import Stores

ROW = [1.0, 2.0, 3.0, 4.0]


def push(client: Client, place: Path, factor: float) -> int:
    directory = place / f"bundle-{factor:g}"
    directory.mkdir()
    return processes.push(client, bundles.write(directory, name="m", factor=factor))


def deploy(client: Client) -> str:
    return client.deploy(NewDeployment(model="m", selector="device!=nobody", soak_s=0.5)).id


def outputs(agent: Agent) -> list[float]:
    return agent.infer("m", ROW).output()


def requests(registry: Registry) -> set[str | None]:
    with registry.client() as client:
        return {record.request for record in processes.stored(client, model="m")}


def run(registry: Registry, *arguments: str) -> str:
    command = Command("packhorse", arguments, registry.log)
    command.environment = registry.environment
    return command.run("--data", str(registry.data))


@pytest.mark.slow
@pytest.mark.parametrize("stores", ["postgresql+s3"], indirect=True)
def test_devices_follow_a_registry_that_has_forgotten_what_they_saw(
    stores: Stores, tmp_path: Path
) -> None:
    """The backup is of SQLite and a directory, taken while a device is on its way to version 1."""
    parts.require("nats-server")
    with processes.scratch() as place, processes.registry(place) as registry:
        agent = Agent(place / "dev-a", registry, "dev-a")
        agent.enrol()
        with registry.client() as client:
            assert push(client, tmp_path, 1.0) == 1
            deploy(client)
            agent.start()
            run(registry, "backup", "-o", str(tmp_path / "registry.tar.zst"))
            agent.await_answer("m", 1)
            # What the backup does not know: a version, its deployment, and telemetry.
            assert push(client, tmp_path, 2.0) == 2
            deploy(client)
            agent.await_answer("m", 2)
        agent.infer("m", ROW, request="before")
        eventually(lambda: "before" in requests(registry), "the record is acked")
        registry.stop()
        agent.infer("m", ROW, request="meanwhile")

        registry.environment.update(stores.environment)
        run(registry, "restore", str(tmp_path / "registry.tar.zst"), "--replace")
        registry.start()

        agent.await_answer("m", 1)
        with registry.client() as client:
            assert [version.version for version in client.versions("m")] == [1]
            assert push(client, tmp_path, 3.0) == 2, "with other content than the one before"
            deployment = deploy(client)
            eventually(lambda: outputs(agent) == [30.0] * 3, "the new version 2 runs")
            eventually(lambda: _stage(client, deployment) == "running", "it is reported")
        eventually(lambda: "meanwhile" in requests(registry), "what was not acked comes again")
        assert "before" not in requests(registry), "the device deleted it when it was acked"
        agent.stop()


def _stage(client: Client, deployment: str) -> str:
    (only,) = client.deployment(deployment).devices
    return only.stage
