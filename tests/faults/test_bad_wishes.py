"""Desired states that the registry never meant, published with its own rights. Real processes."""

from collections.abc import Callable

import pytest

from edge_agent import enrol
from runtime import messages, topics
from runtime.digests import Digest
from runtime.link import LinkSettings
from runtime.messages import Desired, ModuleSpec
from runtime.topics import Channel, DeviceId
from tests.support import fleets, links
from tests.support.fleets import Fleet
from tests.support.processes import Agent, Traffic, eventually

UNKNOWN = Digest("ab" * 32)


def forge(fleet: Fleet, agent: Agent, payload: bytes) -> None:
    """Publish a desired state to a device with the registry's own rights."""
    identity = enrol.load(agent.data)
    assert identity is not None
    authority = fleet.registry.data / "authority"
    settings = LinkSettings(
        host=identity.broker_host,
        port=identity.broker_port,
        client_id="forger",
        ca_file=authority / "ca.pem",
        cert_file=authority / "registry.pem",
        key_file=authority / "registry.key",
    )
    with links.linked(settings, links.Mailbox()) as link:
        link.publish(topics.render(DeviceId(agent.name), Channel.DESIRED), payload)


def desired(agent: Agent, generation: int, **changes: object) -> bytes:
    """Return a wish for an unknown bundle."""
    spec = ModuleSpec(agent.name, UNKNOWN, agent.name, 7, "forged")
    wish = {"device": agent.name, "issued_at": 1.8e9, "modules": (spec,)} | changes
    return messages.encode(Desired(generation=generation, **wish))  # type: ignore[arg-type]


def test_a_forged_wish_for_an_unknown_bundle_changes_nothing_and_is_set_right(fleet: Fleet) -> None:
    name = "forged"
    agent = fleet.running(name)
    before = fleets.tree(agent.data / "bundles"), fleets.blobs(agent.data)
    taken = fleets.says(agent).reported.generation
    traffic = Traffic(agent, name, pause_s=0.01)
    traffic.start()

    forge(fleet, agent, desired(agent, taken + 5))

    try:
        eventually(
            lambda: fleets.says(agent).reported.generation > taken + 5, "the registry has the word"
        )
        eventually(
            lambda: fleets.says(agent).reported.modules[0].version == 1, "and says what shall run"
        )
    finally:
        traffic.stop()
    assert traffic.failures == []
    assert set(traffic.answered.values()) == {"1"}
    assert (fleets.tree(agent.data / "bundles"), fleets.blobs(agent.data)) == before
    assert fleets.tree(agent.data / "downloads") == set()


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (lambda _agent: b"\xff\x00 no JSON at all", ["Desired", "ignored", "runs on"]),
        (lambda agent: desired(agent, 9)[:-9], ["Desired", "ignored", "runs on"]),
        (
            lambda agent: desired(agent, 9) + b" " * messages.MAX_MESSAGE_BYTES,
            ["Desired", "bytes", "at most 262144", "ignored"],
        ),
        (
            lambda agent: desired(agent, 9, device="somebody-else"),
            ["desired.device", "somebody-else", "this device is", "ignored"],
        ),
        (
            lambda agent: desired(agent, 9, format=99),
            ["desired.format", "99", "upgrade", "ignored"],
        ),
    ],
    ids=["garbage", "cut", "oversized", "another-device", "future-format"],
)
def test_a_wish_that_cannot_be_meant_is_ignored_and_reported(
    fleet: Fleet,
    request: pytest.FixtureRequest,
    payload: Callable[[Agent], bytes],
    words: list[str],
) -> None:
    name = f"wish-{request.node.callspec.id}"
    agent = fleet.running(name)
    journal = (agent.data / "journal.json").read_bytes()

    forge(fleet, agent, payload(agent))

    def troubles() -> str:
        return "\n".join(fleet.client.device(name).troubles)

    eventually(lambda: all(word in troubles() for word in words), f"{words} is reported")
    shown = fleets.run("packhorse-agent", "status", "--data", str(agent.data))
    assert shown.code == 0
    assert all(word in shown.out for word in words), shown.out
    assert agent.infer(name, fleets.ROW).version == "1"
    assert (agent.data / "journal.json").read_bytes() == journal

    fleet.push(name, factor=2.0)
    fleet.deploy(name)
    agent.await_answer(name, 2)
    eventually(lambda: troubles() == "", "a good wish ends the trouble")


@pytest.mark.parametrize("step", [-1, 0])
def test_a_wish_that_is_not_newer_changes_nothing(fleet: Fleet, step: int) -> None:
    name = f"older-{-step}"
    agent = fleet.running(name)
    taken = fleets.says(agent).reported.generation
    journal = (agent.data / "journal.json").read_bytes()
    said = fleet.client.device(name).reported_at

    forge(fleet, agent, desired(agent, taken + step))

    eventually(lambda: fleet.client.device(name).reported_at != said, "the device reports again")
    assert fleets.says(agent).reported.generation == taken
    assert (agent.data / "journal.json").read_bytes() == journal
    assert agent.infer(name, fleets.ROW).version == "1"
    assert fleets.says(agent).reported.modules[0].version == 1
