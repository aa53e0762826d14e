import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_agent import desired, uplink
from edge_agent.nouplink import NoUplink
from edge_agent.reporter import GENTLE_S, Reporter
from edge_agent.uplink import MqttUplink, UplinkHooks
from runtime import digests, messages, topics
from runtime.errors import InvalidError, LinkError
from runtime.link import Link, Received
from runtime.messages import (
    Ack,
    Command,
    CommandResult,
    Desired,
    FetchRequest,
    FetchResponse,
    Presence,
    Reported,
)
from runtime.topics import Channel, DeviceId
from tests.support import brokers, links
from tests.support.brokers import Broker, eventually

DEVICE = DeviceId("dev-a")
REQUEST = FetchRequest("q1", (digests.of_bytes(b""),), ("zstd",))


@dataclass
class Heard:
    """What an uplink has told."""

    connected: threading.Event = field(default_factory=threading.Event)
    desired: list[bytes] = field(default_factory=list)
    acks: list[bytes] = field(default_factory=list)
    commands: list[bytes] = field(default_factory=list)
    generation: int = 1

    def hooks(self) -> UplinkHooks:
        return UplinkHooks(
            connected=self.connected.set,
            disconnected=lambda _reason: self.connected.clear(),
            desired=self.desired.append,
            ack=self.acks.append,
            command=self.commands.append,
            compose=lambda: Reported(DEVICE, self.generation, 0.0),
        )


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    with brokers.nats(tmp_path_factory.mktemp("broker"), [DEVICE]) as rig:
        yield rig


@pytest.fixture
def registry(broker: Broker) -> Iterator[tuple[Link, links.Mailbox]]:
    """Give the registry's own link, subscribed to all that devices say."""
    mailbox = links.Mailbox()
    filters = [(topics.every_device(channel), 1) for channel in topics.FROM_DEVICE]
    settings = broker.settings(topics.REGISTRY_USER)
    with links.linked(settings, mailbox, subscriptions=filters) as link:
        yield link, mailbox


@pytest.fixture
def device(broker: Broker) -> Iterator[tuple[MqttUplink, Heard]]:
    made = MqttUplink(broker.settings(DEVICE), DEVICE, heartbeat_s=60.0, reconnect_most_s=1.0)
    heard = Heard()
    made.start(heard.hooks())
    assert heard.connected.wait(20)
    yield made, heard
    made.stop(5)


def topic(channel: Channel) -> str:
    return topics.render(DEVICE, channel)


Pair = tuple[Link, links.Mailbox]
Device = tuple[MqttUplink, Heard]


def test_a_device_that_connects_says_that_it_is_online_and_how_it_is(
    registry: Pair, device: Device
) -> None:
    _, mailbox = registry
    presence = mailbox.message(topic(Channel.PRESENCE))
    while not messages.decode(Presence, presence.payload).online:
        presence = mailbox.message(topic(Channel.PRESENCE))
    said = messages.decode(Presence, presence.payload)
    told = messages.decode(Reported, mailbox.message(topic(Channel.REPORTED)).payload)

    assert said.lease_s == 180.0
    assert told.generation == 1
    assert device[0].connected


def test_a_command_is_handed_over_and_its_result_comes_back(registry: Pair, device: Device) -> None:
    link, mailbox = registry
    made, heard = device
    command = messages.encode(Command("c1", messages.CHECK, "digits"))

    link.publish(topic(Channel.COMMAND), command, qos=0)
    eventually(lambda: heard.commands == [command], "the command is heard")
    made.answer(CommandResult("c1", ok=True, text="p95 is 1.0 ms"))

    result = messages.decode(CommandResult, mailbox.message(topic(Channel.RESULT)).payload)
    assert (result.id, result.ok) == ("c1", True)


def test_a_device_that_ends_says_that_it_goes_offline(registry: Pair, broker: Broker) -> None:
    _, mailbox = registry
    made, heard = MqttUplink(broker.settings(DEVICE), DEVICE, heartbeat_s=60.0), Heard()
    made.start(heard.hooks())
    assert heard.connected.wait(20)
    mailbox.message(topic(Channel.REPORTED))

    made.stop(5)

    def is_farewell(message: Received) -> bool:
        if message.retained or message.topic != topic(Channel.PRESENCE):
            return False
        return not messages.decode(Presence, message.payload).online

    mailbox.wait(Received, is_farewell)


def test_what_the_registry_wants_and_acknowledges_is_handed_over(
    registry: Pair, device: Device
) -> None:
    link, _ = registry
    wanted = messages.encode(Desired(DEVICE, 7, 0.0))
    ack = messages.encode(Ack("e", stored=(1,)))

    link.publish(topic(Channel.DESIRED), wanted, retain=True)
    link.publish(topic(Channel.ACK), ack)

    eventually(lambda: device[1].desired == [wanted], "it is handed over")
    eventually(lambda: device[1].acks == [ack], "it is handed over")


def test_a_message_that_is_too_large_is_handed_over_for_its_reader_to_refuse(
    registry: Pair, device: Device
) -> None:
    link, _ = registry
    large = bytes(messages.MAX_MESSAGE_BYTES + 1)

    link.publish(topic(Channel.DESIRED), large, retain=True)

    eventually(lambda: large in device[1].desired, "it is handed over")
    with pytest.raises(InvalidError, match="send at most"):
        desired.read(large, DEVICE)


def test_a_question_gets_its_own_answer(registry: Pair, device: Device) -> None:
    link, mailbox = registry

    def answer() -> None:
        asked = messages.decode(FetchRequest, mailbox.message(topic(Channel.REQUEST)).payload)
        for payload in (
            b"nonsense",
            messages.encode(FetchResponse("another", error="not yours")),
            messages.encode(FetchResponse(asked.id, error="no such bundle", retryable=False)),
        ):
            link.publish(topic(Channel.RESPONSE), payload)

    answering = threading.Thread(target=answer)
    answering.start()

    assert device[0].ask(REQUEST) == FetchResponse("q1", error="no such bundle", retryable=False)
    answering.join()


def test_a_question_without_an_answer_ends_in_time(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uplink, "ANSWER_TIMEOUT_S", 0.2)

    with pytest.raises(LinkError, match="did not answer"):
        device[0].ask(REQUEST)


def test_a_batch_is_published_on_the_device_s_telemetry_topic(
    registry: Pair, device: Device
) -> None:
    device[0].publish(b"batch")

    assert registry[1].message(topic(Channel.TELEMETRY)).payload == b"batch"


def test_a_change_is_reported_at_once(registry: Pair, device: Device) -> None:
    registry[1].message(topic(Channel.REPORTED))
    device[1].generation = 9

    device[0].changed(urgent=True)

    told = registry[1].message(topic(Channel.REPORTED), timeout_s=2.0)
    assert messages.decode(Reported, told.payload).generation == 9


def test_nothing_is_lost_by_a_broker_that_restarts(tmp_path: Path) -> None:
    with brokers.nats(tmp_path, [DEVICE]) as broker:
        made = MqttUplink(broker.settings(DEVICE), DEVICE, heartbeat_s=60.0, reconnect_most_s=0.2)
        heard = Heard()
        made.start(heard.hooks())
        assert heard.connected.wait(20)
        broker.restart()
        eventually(lambda: made.connected, "it connects again")
        made.publish(b"batch")
        made.stop(5)


def test_a_device_without_identity_reaches_nobody_and_says_why() -> None:
    nobody = NoUplink("enrol this device again")

    with pytest.raises(LinkError, match="enrol"):
        nobody.ask(REQUEST)
    with pytest.raises(LinkError, match="enrol"):
        nobody.publish(b"")


class Ear:
    """Notes when a reporter sends; may refuse."""

    def __init__(self) -> None:
        self.times: list[tuple[float, bool]] = []
        self.refuse = 0

    def __call__(self, fresh: bool) -> None:  # noqa: FBT001 - as called
        self.times.append((time.monotonic(), fresh))
        if self.refuse:
            self.refuse -= 1
            raise LinkError("no")


@pytest.fixture
def ear() -> Ear:
    return Ear()


@pytest.fixture
def reporter(ear: Ear) -> Iterator[Reporter]:
    made = Reporter(ear, heartbeat_s=30.0)
    made.start()
    yield made
    made.stop(5)


def test_nothing_is_reported_before_the_link_stands(reporter: Reporter, ear: Ear) -> None:
    reporter.changed(urgent=True)
    threading.Event().wait(0.2)
    assert ear.times == []

    reporter.connected()

    eventually(lambda: [fresh for _, fresh in ear.times] == [True], "the first report")


def test_progress_is_reported_a_few_times_a_second(reporter: Reporter, ear: Ear) -> None:
    reporter.connected()
    eventually(lambda: len(ear.times) == 1, "the first report")
    began = time.monotonic()

    def progress() -> bool:
        reporter.changed(urgent=False)
        return len(ear.times) > 4

    eventually(progress, "some reports more")
    made, took_s = len(ear.times) - 1, time.monotonic() - began
    assert made <= 1 + took_s / GENTLE_S


def test_a_report_that_failed_is_sent_again_as_the_first(
    reporter: Reporter, ear: Ear, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.reporter.AGAIN_S", 0.1)
    ear.refuse = 2

    reporter.connected()

    eventually(lambda: len(ear.times) == 3, "it is tried again")
    assert [fresh for _, fresh in ear.times] == [True, True, True]


def test_a_heartbeat_comes_without_a_change(ear: Ear) -> None:
    reporter = Reporter(ear, heartbeat_s=0.1)
    reporter.start()
    reporter.connected()

    eventually(lambda: len(ear.times) >= 4, "heartbeats")
    reporter.stop(5)
    gaps = [
        later - earlier for (earlier, _), (later, _) in zip(ear.times, ear.times[1:], strict=False)
    ]
    assert all(gap > 0.07 for gap in gaps)
