"""What an operator has a device do from afar, with both command lines and a real broker."""

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import fleets
from tests.support.brokers import eventually
from tests.support.fleets import ROW, Fleet
from tests.support.processes import Agent

pytestmark = pytest.mark.timeout(240)
NAME = "afar"


@pytest.fixture(scope="module")
def fleet() -> Iterator[Fleet]:
    with fleets.fleet() as made:
        yield made
        made.require_quiet()


@pytest.fixture(scope="module")
def agent(fleet: Fleet) -> Agent:
    allowed = '{say = ["/bin/echo", "hello"]}'
    return fleet.running(NAME, settings={"PACKHORSE_AGENT_REMOTE_COMMANDS": allowed})


def test_logs_of_an_agent_and_of_a_module_come_without_an_open_port(
    fleet: Fleet, agent: Agent
) -> None:
    said = fleet.packhorse("devices", "logs", agent.name, "--since", "10m")
    assert said.code == 0, said.err
    assert "worker started" in said.out

    errors = fleet.packhorse("devices", "logs", agent.name, "--level", "critical")
    assert (errors.code, errors.out) == (0, "")


def test_who_follows_sees_what_happens_next(fleet: Fleet, agent: Agent) -> None:
    follower = subprocess.Popen(
        [Path(sys.executable).with_name("packhorse"), "devices", "logs", "-f", agent.name],
        env={**os.environ, "PACKHORSE_CONFIG": str(fleet.config)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert follower.stdout is not None
    try:
        assert follower.stdout.readline()
        done = fleet.packhorse("devices", "restart", agent.name, "--module", NAME)
        assert done.code == 0, done.err
        lines = iter(follower.stdout.readline, "")
        assert any(f"kind=restart ok=True said='{NAME} answers again" in line for line in lines)
    finally:
        follower.kill()
        follower.wait()
        follower.stdout.close()
    agent.await_answer(NAME, 1)


def test_who_follows_waits_for_a_device_that_is_away_and_goes_on(
    fleet: Fleet, agent: Agent
) -> None:
    follower = subprocess.Popen(
        [Path(sys.executable).with_name("packhorse"), "devices", "logs", "-f", agent.name,
         "--timeout", "3"],
        env={**os.environ, "PACKHORSE_CONFIG": str(fleet.config)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert follower.stdout is not None
    assert follower.stderr is not None
    try:
        assert follower.stdout.readline()
        assert agent.stop() == 0
        assert "no answer to 'logs' within 3 s" in follower.stderr.readline()
        agent.start()
        lines = iter(follower.stdout.readline, "")
        assert any("module changed" in line for line in lines)
    finally:
        follower.kill()
        follower.communicate()
    agent.await_answer(NAME, 1)


def test_the_last_prediction_can_be_read(fleet: Fleet, agent: Agent) -> None:
    agent.infer(NAME, ROW, request="look")

    def seen() -> bool:
        said = fleet.packhorse("devices", "infer", agent.name, NAME)
        return said.code == 0 and json.loads(said.out)["request"] == "look"

    eventually(seen, "the prediction is the last one")


def test_only_commands_that_the_device_allows_are_run(fleet: Fleet, agent: Agent) -> None:
    said = fleet.packhorse("devices", "exec", agent.name, "say")
    assert (said.code, said.out) == (0, "hello\n")

    refused = fleet.packhorse("devices", "exec", agent.name, "reboot")
    assert refused.code == 1
    assert "this device allows say" in refused.complaint


def test_a_login_to_an_image_registry_arrives_sealed_for_this_device(
    fleet: Fleet, agent: Agent
) -> None:
    fleet.packhorse("devices", "list")  # logs in
    program = Path(sys.executable).with_name("packhorse")
    asked = ("devices", "registry-login", agent.name, "images.example:5000", "--username", "ann")
    said = subprocess.run(
        [program, *asked],
        input=b"open sesame\n",
        env={**os.environ, "PACKHORSE_CONFIG": str(fleet.config)},
        capture_output=True,
        check=False,
    )

    assert said.returncode == 0, said.stderr
    kept = agent.data / "registries.json"
    assert json.loads(kept.read_bytes()) == {
        "images.example:5000": {"username": "ann", "password": "open sesame"}
    }
    assert kept.stat().st_mode & 0o077 == 0
    told = fleet.packhorse("events", "--kind", "device.commanded", "--json").out
    assert "registry-login" in told
    assert "sesame" not in told
    forgot = fleet.packhorse("devices", "registry-login", agent.name, "images.example:5000",
                             "--forget")  # fmt: skip
    assert forgot.code == 0, forgot.err
    assert json.loads(kept.read_bytes()) == {}


def test_a_login_for_a_fleet_reaches_a_device_that_was_away_and_changes_and_goes(
    fleet: Fleet, agent: Agent
) -> None:
    kept, token = agent.data / "fleet-registries.json", "sesame" * 600
    agent.stop()
    set_login(fleet, token)
    agent.start()
    eventually(kept.exists, "it has come")

    held = json.loads(kept.read_bytes())["logins"]
    assert held == {"fleet.example": {"username": "ann", "password": token}}
    assert kept.stat().st_mode & 0o077 == 0
    set_login(fleet, "sesame two")
    eventually(lambda: "sesame two" in kept.read_text(), "it is the new one")
    assert "sesame" not in (agent.data / "journal.json").read_text()
    listed = fleet.packhorse("image-logins", "list").out
    assert "fleet.example" in listed
    assert "sesame" not in listed + fleet.packhorse("events", "--json").out

    number = str(json.loads(fleet.packhorse("image-logins", "list", "--json").out)[0]["id"])
    assert fleet.packhorse("image-logins", "remove", number).code == 0
    eventually(lambda: not kept.exists(), "it is gone")


def set_login(fleet: Fleet, password: str) -> None:
    """Keep a login for all devices, as a person does."""
    fleet.packhorse("devices", "list")  # logs in
    program = Path(sys.executable).with_name("packhorse")
    subprocess.run(
        [program, "image-logins", "set", "fleet.example", "--username", "ann"],
        input=password.encode() + b"\n",
        env={**os.environ, "PACKHORSE_CONFIG": str(fleet.config)},
        check=True,
    )


def test_a_support_archive_is_written_and_holds_no_key(fleet: Fleet, agent: Agent) -> None:
    file = fleet.place / "support.tar.gz"
    said = fleet.packhorse("devices", "support", agent.name, "-o", str(file))

    assert said.code == 0, said.err
    with tarfile.open(file) as archive:
        names = set(archive.getnames())
    assert {"support/status.json", "support/logs/agent.log"} <= names
    assert b"PRIVATE KEY" not in file.read_bytes()
    assert file.stat().st_mode & 0o077 == 0
    assert fleet.packhorse("devices", "support", agent.name, "-o", str(file)).code == 2


def test_the_doctor_finds_a_connected_device_well(agent: Agent) -> None:
    said = fleets.run("packhorse-agent", "doctor", "--data", str(agent.data), "--json")
    found = json.loads(said.out)
    areas = {each["area"]: each["level"] for each in found["findings"]}

    assert (said.code, found["healthy"]) == (0, True), said.out
    assert {name: areas[name] for name in ("broker", "registry", "certificate", "agent")} == {
        "broker": "ok", "registry": "ok", "certificate": "ok", "agent": "ok",
    }  # fmt: skip
    assert any("from the registry's" in each["text"] for each in found["findings"])


def test_an_agent_without_slots_is_not_updated_from_afar(fleet: Fleet, agent: Agent) -> None:
    said = fleet.packhorse("devices", "update-agent", agent.name, "9.9")

    assert said.code == 1
    assert "install --slots VERSION" in said.complaint


def test_the_agent_restarts_itself_in_place(fleet: Fleet, agent: Agent) -> None:
    """Without a service manager: the process is replaced and keeps its number."""
    before, life = agent.pid, fleets.says(agent)
    said = fleet.packhorse("devices", "restart", agent.name)
    assert said.code == 0, said.err
    eventually(lambda: "agent begins again" in agent.log.read_text(), "it begins again")
    agent.await_answer(NAME, 1)

    assert fleets.says(agent).pid == before == life.pid
    eventually(lambda: fleet.client.device(agent.name).presence == "online", "it is back")


def test_an_operator_may_not_run_commands_and_all_is_in_the_history(
    fleet: Fleet, agent: Agent
) -> None:
    file = fleet.place / "operator.key"
    made = fleet.packhorse("keys", "create", "op", "--role", "operator", "--key-file", str(file))
    assert made.code == 0, made.err
    key = file.read_text().strip()
    config = str(fleet.config)

    def as_operator(*arguments: str) -> fleets.Said:
        return fleets.run("packhorse", *arguments, PACKHORSE_CONFIG=config, PACKHORSE_KEY=key)

    refused = as_operator("devices", "exec", agent.name, "say")
    looked = as_operator("devices", "logs", agent.name)

    assert refused.code == 1
    assert "this is for admins" in refused.complaint
    assert looked.code == 0, looked.err
    last = [each for each in fleet.client.events() if each.kind == "device.commanded"][-1]
    assert (last.actor, last.subject, last.data["command"]) == ("key:op", agent.name, "logs")
    assert fleet.packhorse("keys", "revoke", "op").code == 0
    assert as_operator("devices", "list").code != 0


def test_a_device_that_is_away_gets_no_command_later(fleet: Fleet) -> None:
    away = fleet.agent("away", starts=False)
    said = fleet.packhorse("devices", "logs", away.name, "--timeout", "0.5")

    assert said.code != 0
    assert "no answer to 'logs' within 0.5 s" in said.complaint
