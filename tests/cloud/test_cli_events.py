import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud.cli import main
from cloud.registry import hearing
from cloud.registry.hearing import Word
from runtime.digests import Digest
from runtime.messages import ModuleReport, Phase, Reported, RunningVersion
from runtime.topics import DeviceId
from tests.support import receivers, registries
from tests.support.command_line import Run
from tests.support.registries import Registry

NOW = 1_800_000_000.0
ONE = Digest("ab" * 32)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with registries.running(tmp_path / "data", webhook_networks="127.0.0.0/8") as running:
        yield running


def report(registry: Registry) -> None:
    """Have dev-a say that it runs scale:1."""
    registry.enrol("dev-a")
    running = RunningVersion(ONE, "scale", 1)
    module = ModuleReport("scale", Phase.RUNNING, ONE, "scale", 1, "dep-1", NOW, running=running)
    words = Reported(device="dev-a", generation=1, at=NOW, modules=(module,))
    with registry.services.transaction() as session:
        hearing.take_over(session, [Word(DeviceId("dev-a"), words, NOW)])


def test_events_are_shown_for_people_and_for_scripts(registry: Registry, run: Run) -> None:
    registry.enrol("dev-a")
    for_people = run("events", "--kind", "device.*")
    for_scripts = run("events", "--subject", "dev-a", "--json")
    rest = run("events", "--after", "1", "--kind", "token.created", "--json")

    assert "device:dev-a  device.enrolled  dev-a" in for_people.out
    assert [json.loads(line)["kind"] for line in for_scripts.out.splitlines()] == [
        "device.enrolled"
    ]
    assert len(rest.out.splitlines()) == 1


def test_what_ran_where_is_shown_with_who_and_until_when(registry: Registry, run: Run) -> None:
    report(registry)
    listed = run("history", "--device", "dev-a")
    then = run("history", "--at", str(int(NOW)), "--model", "scale:1")
    registry.clock.at += 7200
    silent = run("history", "--at", str(int(NOW) + 3600))
    plain: Any = json.loads(run("history", "--at", str(int(NOW) + 3600), "--json").out)

    assert "scale:1" in listed.out
    assert "last heard" in listed.out
    assert "not known" in listed.out  # whose act: no such deployment is here
    assert "yes" in then.out
    assert "not heard from: last heard" in silent.out
    assert plain[0]["heard"] == "silent"


def test_a_time_that_is_none_is_one_clear_line(run: Run) -> None:
    ran = run("history", "--at", "yesterday")

    assert ran.code == main.BAD_INPUT
    assert "2026-05-01T12:00Z" in ran.err


def test_a_webhook_is_added_tried_changed_and_removed(registry: Registry, run: Run) -> None:
    with receivers.receiving() as receiver:
        made = run("webhooks", "add", receiver.url, "--kind", "device.*").out
        webhook = made.split()[1]
        tried = run("webhooks", "test", webhook)
        receiver.statuses = [500]
        failed = run("webhooks", "test", webhook)
    shown = run("webhooks", "show", webhook)
    off = run("webhooks", "change", webhook, "--off")
    listed = run("webhooks", "list")
    sent = run("webhooks", "deliveries", webhook)
    again = run("webhooks", "replay", webhook, "--dead")
    unclear = run("webhooks", "replay", webhook)
    gone = run("webhooks", "remove", webhook)

    assert "whsec_" in made
    assert tried.code == 0
    assert (failed.code, "did not take it" in failed.err) == (main.FAILED, True)
    assert "device.*" in shown.out
    assert "whsec_" not in shown.out
    assert "off" in off.out
    assert "off" in listed.out
    assert "500" in sent.out
    assert "0 dead letters queued" in again.out
    assert unclear.code == main.BAD_INPUT
    assert gone.code == 0
    assert registry.get("/api/v1/webhooks")["items"] == []
