"""From one registry to another, and to a device that never sees any: commands and a file."""

from pathlib import Path

from tests.support import bundles, parts, processes
from tests.support.commands import Command
from tests.support.processes import Agent, Registry

ROW = [1.0, 2.0, 3.0, 4.0]


def packhorse(registry: Registry, *arguments: str) -> str:
    """Run a command as somebody who has logged in."""
    command = Command("packhorse", arguments, registry.log)
    command.environment = {
        "PACKHORSE_CONFIG": str(registry.data / "login.json"),
        "PACKHORSE_URL": registry.url,
        "PACKHORSE_KEY": registry.key,
        "PACKHORSE_CA": str(registry.data / "authority" / "ca.pem"),
    }
    return command.run()


def test_a_version_leaves_a_registry_in_a_file_and_runs_on_a_device_without_one(
    tmp_path: Path,
) -> None:
    parts.require("nats-server")
    source = tmp_path / "source"
    source.mkdir()
    bundles.write(source, name="m", factor=2.0)
    file = tmp_path / "m.tar"
    with processes.scratch() as place, processes.registry(place) as registry:
        packhorse(registry, "models", "push", str(source))
        exported = packhorse(registry, "models", "export", "m:1", "-o", str(file))
        imported = packhorse(registry, "models", "import", str(file))
        agent = Agent(place / "alone", registry, "alone")
        agent.data.mkdir()
        registry.stop()

        applied = Command("packhorse-agent", ["apply", str(file)], agent.log)
        told = applied.run("--data", str(agent.data))
        agent.start()
        agent.await_answer("m", 1)
        answer = agent.infer("m", ROW)
        again = applied.run("--data", str(agent.data))
        agent.stop()

    assert exported.startswith(f"{file}: m:1 (")
    assert imported == "m:1 here already (there m:1)\n"
    assert "will run when the agent starts" in told
    assert answer.output() == [20.0] * 3
    assert again == "m: m:1 runs\n"
