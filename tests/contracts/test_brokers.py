"""What every broker of a fleet must let through and keep back, on each broker that we ship.

A broker may acknowledge a forbidden publish and drop it. So that nothing arrives is shown by a
later message on the same path that does, never by waiting.
"""

import ssl
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from cryptography import x509
from paho.mqtt.enums import CallbackAPIVersion

from cloud.trust.authority import Authority
from runtime import link, topics
from runtime.link import LinkSettings, Received
from runtime.topics import Channel, DeviceId
from tests.support import brokers
from tests.support.brokers import Broker
from tests.support.links import Mailbox, linked, refusal

A, B = DeviceId("dev-a"), DeviceId("dev-b")
REGISTRY = topics.REGISTRY_USER
EVERYTHING = [("ph/1/#", 1)]
OWN = {topics.render(A, channel) for channel in Channel}


@pytest.fixture(scope="module", params=["nats", "mosquitto"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    with brokers.either(request.param, tmp_path_factory.mktemp("broker"), [A, B]) as running:
        yield running


class Client:
    """A bare MQTT client that may ask for anything: what a hostile device would use."""

    def __init__(self, settings: LinkSettings, username: str | None = None) -> None:
        self.got: list[str] = []
        self.news = threading.Condition()
        self.codes: list[Any] = []
        self.ended = threading.Event()
        self.client = client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id="hostile", reconnect_on_failure=False
        )
        if username is not None:
            client.username_pw_set(username, "guess")
        assert settings.ca_file is not None
        context = ssl.create_default_context(cafile=str(settings.ca_file))
        assert settings.cert_file is not None
        context.load_cert_chain(settings.cert_file, settings.key_file)
        client.tls_set_context(context)
        client.on_connect = lambda *args: self._note(self.codes, str(args[3]))
        client.on_disconnect = lambda *_: self.ended.set()
        client.on_subscribe = lambda *_: self._note(self.codes, "subscribed")
        client.on_message = lambda *args: self._note(self.got, args[2].topic)
        client.connect(settings.host, settings.port)
        client.loop_start()

    def _note(self, where: list[Any], what: str) -> None:
        with self.news:
            where.append(what)
            self.news.notify_all()

    def wait(self, where: list[Any], what: str, count: int = 1) -> None:
        with self.news:
            assert self.news.wait_for(lambda: where.count(what) >= count, 20), (what, where)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.mark.parametrize(
    "wanted",
    [
        f"ph/1/{B}/desired",
        f"ph/1/{B}/response",
        f"ph/1/{B}/ack",
        f"ph/1/{B}/#",
        "ph/1/+/desired",
        "ph/1/#",
        "ph/1/+/telemetry/+",
        "#",
        "+/+/+/+",
        "$SYS/#",
        "$JS/#",
        "$JS/API/#",
        "$MQTT/#",
        "$MQTT/sub/#",
        "$MQTT/+/+",
        "_INBOX/#",
        "+/#",
    ],
)
@pytest.mark.parametrize("qos", [0, 1])
def test_a_device_hears_nothing_that_is_not_its_own(broker: Broker, wanted: str, qos: int) -> None:
    spy = Client(broker.settings(A))
    try:
        spy.wait(spy.codes, "Success")
        spy.client.subscribe(topics.render(A, Channel.ACK), 0)
        spy.client.subscribe(wanted, qos)
        spy.wait(spy.codes, "subscribed", 2)
        inbox = Mailbox()
        with (
            linked(broker.settings(REGISTRY), inbox, subscriptions=EVERYTHING) as registry,
            linked(broker.settings(B), Mailbox()) as other,
        ):
            for channel in topics.TO_DEVICE:
                registry.publish(topics.render(B, channel), b"for b", retain=True)
            for channel in topics.FROM_DEVICE:
                other.publish(topics.render(B, channel), b"from b")
                inbox.message(topics.render(B, channel))
            registry.publish(topics.render(A, Channel.ACK), b"sentinel")
            spy.wait(spy.got, topics.render(A, Channel.ACK))
    finally:
        spy.close()

    assert set(spy.got) <= OWN


def test_a_device_is_not_heard_where_it_may_not_speak(broker: Broker) -> None:
    forbidden = [
        *(topics.render(B, channel) for channel in Channel),
        *(topics.render(A, channel) for channel in topics.TO_DEVICE),
        f"ph/1/{topics.shard_of(A)}/telemetry/{B}",
        f"ph/1/{A}/something",
        "ph/1/reported",
        "ph/2/x",
    ]
    inbox = Mailbox()
    with (
        linked(broker.settings(REGISTRY), inbox, subscriptions=EVERYTHING),
        linked(broker.settings(A), Mailbox()) as device,
    ):
        for topic in forbidden:
            device.publish(topic, b"forged")
            device.publish(topic, b"forged and kept", retain=True)
        device.publish(topics.render(A, Channel.REPORTED), b"sentinel")
        inbox.message(topics.render(A, Channel.REPORTED))

        assert [event for event in inbox.received() if event.payload.startswith(b"forged")] == []

    later = Mailbox()
    with linked(broker.settings(REGISTRY), later, subscriptions=EVERYTHING) as registry:
        registry.publish("ph/1/sentinel", b"")
        later.message("ph/1/sentinel")

    assert [event for event in later.received() if event.payload.startswith(b"forged")] == []


def test_each_device_is_heard_and_served_on_all_of_its_own_topics(broker: Broker) -> None:
    registry_inbox, inbox = Mailbox(), Mailbox()
    own = [(topics.render(A, channel), 0) for channel in topics.TO_DEVICE]
    with (
        linked(broker.settings(REGISTRY), registry_inbox, subscriptions=EVERYTHING) as registry,
        linked(broker.settings(A), inbox, subscriptions=own) as device,
    ):
        for channel in topics.FROM_DEVICE:
            device.publish(topics.render(A, channel), channel.value.encode())
            got = registry_inbox.message(topics.render(A, channel))
            assert got.payload == channel.value.encode()
        for channel in topics.TO_DEVICE:
            registry.publish(topics.render(A, channel), channel.value.encode())
            assert inbox.message(topics.render(A, channel)).payload == channel.value.encode()


@pytest.mark.parametrize("channel", topics.FROM_DEVICE)
def test_the_registry_hears_every_device_by_one_filter(broker: Broker, channel: Channel) -> None:
    inbox = Mailbox()
    with linked(
        broker.settings(REGISTRY), inbox, subscriptions=[(topics.every_device(channel), 1)]
    ):
        for device in (A, B):
            with linked(broker.settings(device), Mailbox()) as connected:
                connected.publish(topics.render(device, channel), b"x")
            assert inbox.message(topics.render(device, channel)).payload == b"x"


def test_desired_state_waits_for_a_device_that_was_away_and_can_be_taken_back(
    broker: Broker,
) -> None:
    topic = topics.render(A, Channel.DESIRED)
    with linked(broker.settings(REGISTRY), Mailbox()) as registry:
        registry.publish(topic, b"one", retain=True)
        registry.publish(topic, b"two", retain=True)
        first = Mailbox()
        with linked(broker.settings(A), first, subscriptions=[(topic, 0)]):
            assert first.message(topic) == Received(topic, b"two", 0, True, 0, 1)
        registry.publish(topic, b"", retain=True)
        second = Mailbox()
        with linked(broker.settings(A), second, subscriptions=[(topic, 0)]):
            registry.publish(topic, b"sentinel")
            assert second.message(topic).payload == b"sentinel"


def test_nobody_comes_in_without_a_certificate(broker: Broker) -> None:
    anonymous = replace(broker.settings(A), cert_file=None, key_file=None)

    assert refusal(anonymous)


def test_nobody_comes_in_without_tls(broker: Broker) -> None:
    plain = replace(broker.settings(A), tls=False)

    assert refusal(plain)


@pytest.mark.parametrize("name", [A, REGISTRY])
def test_a_certificate_of_another_ca_is_no_use_whatever_it_says(
    broker: Broker, tmp_path: Path, name: str
) -> None:
    stranger = Authority.open(tmp_path)
    forged = replace(
        broker.settings(A),
        cert_file=stranger.registry_cert_file,
        key_file=stranger.registry_key_file,
    )
    if name == A:
        cert_file, key_file = brokers.certify(stranger, tmp_path, name)
        forged = replace(forged, cert_file=cert_file, key_file=key_file)

    assert refusal(forged, "refused this certificate")


def test_a_server_certificate_is_no_client_certificate(broker: Broker) -> None:
    authority = broker.authority
    forged = replace(
        broker.settings(A),
        cert_file=authority.server_cert_file,
        key_file=authority.server_key_file,
    )

    assert refusal(forged, "refused this certificate")


@pytest.mark.parametrize("claimed", [B, f"CN={B}", REGISTRY, f"CN={REGISTRY}"])
def test_who_gives_another_name_is_still_only_who_its_certificate_says(
    broker: Broker, claimed: str
) -> None:
    inbox = Mailbox()
    with linked(broker.settings(REGISTRY), inbox, subscriptions=EVERYTHING):
        spoof = Client(broker.settings(A), username=claimed)
        try:
            spoof.client.publish(topics.render(B, Channel.REPORTED), b"forged", 1)
            spoof.client.publish(topics.render(B, Channel.DESIRED), b"forged", 1)
            last = spoof.client.publish(topics.render(A, Channel.REPORTED), b"own", 1)
            brokers.eventually(
                lambda: spoof.ended.is_set() or (not last.rc and last.is_published()),
                "refused or served as A",
            )
        finally:
            spoof.close()
        with linked(broker.settings(A), Mailbox()) as device:
            device.publish(topics.render(A, Channel.REPORTED), b"sentinel")
        inbox.wait(Received, lambda event: event.payload == b"sentinel")

        assert [event for event in inbox.received() if event.payload == b"forged"] == []


def test_a_revoked_device_does_not_come_in_again(broker: Broker) -> None:
    revoked = broker.settings("dev-r")
    broker.devices.append("dev-r")
    broker.reload()
    with linked(revoked, Mailbox()):
        pass
    assert revoked.cert_file is not None
    certificate = x509.load_pem_x509_certificate(revoked.cert_file.read_bytes())

    broker.devices.remove("dev-r")
    broker.authority.revoke([f"{certificate.serial_number:x}"])
    broker.reload()

    assert refusal(revoked, "refused this certificate")
    with linked(broker.settings(A), Mailbox()) as device:
        device.publish(topics.render(A, Channel.REPORTED), b"others go on")


def test_a_certificate_that_was_replaced_is_refused_and_the_new_one_works(broker: Broker) -> None:
    broker.devices.append("dev-e")
    broker.reload()
    old = broker.settings("dev-e")
    with linked(old, Mailbox()):
        pass

    broker.replace("dev-e")
    broker.reload()

    assert refusal(old, "refused this certificate")
    inbox, reported = Mailbox(), topics.render(DeviceId("dev-e"), Channel.REPORTED)
    with (
        linked(broker.settings(REGISTRY), inbox, subscriptions=EVERYTHING),
        linked(broker.settings("dev-e"), Mailbox()) as device,
    ):
        device.publish(reported, b"the same device")
        assert inbox.message(reported).payload == b"the same device"


def test_a_message_that_is_too_large_harms_nobody_else(broker: Broker) -> None:
    inbox = Mailbox()
    with linked(broker.settings(REGISTRY), inbox, subscriptions=EVERYTHING):
        hostile = Client(broker.settings(A))
        try:
            hostile.wait(hostile.codes, "Success")
            payload = b"x" * (link.MAX_PAYLOAD_BYTES * 2)
            hostile.client.publish(topics.render(A, Channel.REPORTED), payload, 1)
            assert hostile.ended.wait(20)
        finally:
            hostile.close()
        with linked(broker.settings(B), Mailbox()) as device:
            device.publish(topics.render(B, Channel.REPORTED), b"sentinel")

        assert inbox.message(topics.render(B, Channel.REPORTED)).payload == b"sentinel"
        assert not any(len(event.payload) > link.MAX_PAYLOAD_BYTES for event in inbox.received())
