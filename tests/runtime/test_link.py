import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.trust.authority import Authority
from runtime import link, topics
from runtime.errors import InvalidError, LinkError
from runtime.link import Connected, Disconnected, Link, LinkEvent, LinkSettings
from runtime.retry import Backoff
from runtime.topics import Channel, DeviceId
from tests.support import brokers, link_leaks
from tests.support.brokers import Broker
from tests.support.links import Mailbox, linked

A = DeviceId("dev-a")
DESIRED, REPORTED = topics.render(A, Channel.DESIRED), topics.render(A, Channel.REPORTED)
PRESENCE = topics.render(A, Channel.PRESENCE)
REGISTRY = topics.REGISTRY_USER
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module", params=["nats", "mosquitto"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    with brokers.either(request.param, tmp_path_factory.mktemp("broker"), [A]) as running:
        yield running


def _nobody(settings: LinkSettings, inbox: Mailbox) -> Link:
    """Return a link that is not started yet."""
    return Link(settings, subscriptions=[(DESIRED, 0)], inbox=inbox, backoff=Backoff(0.05, 0.2))


def test_a_retained_message_reaches_who_connects_later(broker: Broker) -> None:
    with linked(broker.settings(REGISTRY), Mailbox()) as registry:
        registry.publish(DESIRED, b"run this", retain=True)
    inbox = Mailbox()

    with linked(broker.settings(A), inbox, subscriptions=[(DESIRED, 0)]):
        message = inbox.message(DESIRED)

    assert (message.payload, message.retained) == (b"run this", True)


def test_a_link_comes_back_after_the_broker_was_killed(broker: Broker) -> None:
    inbox = Mailbox()
    with linked(broker.settings(A), inbox, subscriptions=[(DESIRED, 0)]) as device:
        broker.restart()
        inbox.wait(Disconnected)
        inbox.wait(Connected)

        device.publish(REPORTED, b"still here")


def test_the_last_will_of_a_killed_process_is_published(broker: Broker) -> None:
    settings = broker.settings(A)
    files = (settings.ca_file, settings.cert_file, settings.key_file)
    script = f"""
import threading
from pathlib import Path
from runtime.link import Connected, Link, LinkSettings
def inbox(event):
    print(type(event).__name__, flush=True)
files = [Path(text) for text in {[str(file) for file in files]!r}]
settings = LinkSettings({settings.host!r}, {settings.port}, "dev-a", *files)
Link(settings, subscriptions=[], inbox=inbox, will=({PRESENCE!r}, b"gone")).start()
threading.Event().wait()
"""
    inbox = Mailbox()
    with linked(broker.settings(REGISTRY), inbox, subscriptions=[(PRESENCE, 0)]):
        with subprocess.Popen(
            [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"Connected\n"
            process.kill()

        assert inbox.message(PRESENCE).payload == b"gone"


def test_a_link_that_is_stopped_leaves_no_last_will(broker: Broker) -> None:
    inbox = Mailbox()
    with linked(broker.settings(REGISTRY), inbox, subscriptions=[(REPORTED, 0)]):
        with linked(broker.settings(A), Mailbox(), will=(REPORTED, b"gone")):
            pass
        # This comes after a will, had there been one.
        with linked(broker.settings(A), Mailbox()) as device:
            device.publish(REPORTED, b"sentinel")

        assert inbox.message(REPORTED).payload == b"sentinel"


def test_what_was_not_acked_comes_again_and_what_was_does_not(broker: Broker) -> None:
    """On Mosquitto at once, on NATS after its ack_wait of ten seconds."""
    ingester = broker.settings(REGISTRY, clean_session=False)
    subscriptions = [(REPORTED, 1)]
    with linked(broker.settings(A), Mailbox()) as device:
        first = Mailbox()
        with linked(ingester, first, subscriptions=subscriptions) as receiver:
            device.publish(REPORTED, b"acked")
            receiver.ack(first.message(REPORTED))
            device.publish(REPORTED, b"not acked")
            unacked = first.message(REPORTED)

        second = Mailbox()
        with linked(ingester, second, subscriptions=subscriptions) as receiver:
            again = second.message(REPORTED)
            receiver.ack(unacked)  # of a connection that is gone: must not ack anything here
            receiver.ack(again)
            device.publish(REPORTED, b"last")
            last = second.message(REPORTED)
            receiver.ack(last)

    assert again.payload == b"not acked"
    assert last.payload == b"last"


def test_a_batch_of_the_largest_size_passes_and_a_larger_message_is_refused(broker: Broker) -> None:
    inbox = Mailbox()
    payload = os.urandom(link.MAX_PAYLOAD_BYTES)
    with (
        linked(broker.settings(REGISTRY), inbox, subscriptions=[(REPORTED, 1)]),
        linked(broker.settings(A), Mailbox()) as device,
    ):
        device.publish(REPORTED, payload)
        with pytest.raises(InvalidError, match="send at most"):
            device.publish(REPORTED, payload + b"x")

        assert inbox.message(REPORTED).payload == payload


def test_to_publish_when_not_connected_fails_at_once(broker: Broker) -> None:
    device = _nobody(broker.settings(A), Mailbox())
    began = time.monotonic()

    with pytest.raises(LinkError, match="not connected"):
        device.publish(REPORTED, b"x")

    assert time.monotonic() - began < 1
    assert not device.connected


def test_to_publish_while_the_broker_is_frozen_fails_in_time(
    broker: Broker,
) -> None:
    registry_inbox, inbox = Mailbox(), Mailbox()
    with (
        linked(broker.settings(REGISTRY), registry_inbox, subscriptions=[(REPORTED, 1)]),
        linked(broker.settings(A), inbox) as device,
    ):
        with brokers.frozen(broker):
            with pytest.raises(LinkError, match="not acknowledged within"):
                device.publish(REPORTED, b"lost", timeout_s=0.3)
            assert device.connected
        device.publish(REPORTED, b"next")

        # It had left this process already, so here it does arrive: a failure is no proof of loss.
        assert registry_inbox.message(REPORTED).payload == b"lost"
        assert registry_inbox.message(REPORTED).payload == b"next"


def test_a_frozen_broker_is_noticed_by_keep_alive(broker: Broker) -> None:
    settings = broker.settings(A)
    hasty = LinkSettings(
        settings.host, settings.port, "hasty", settings.ca_file, settings.cert_file,
        settings.key_file, keepalive_s=1,
    )  # fmt: skip
    inbox = Mailbox()
    with linked(hasty, inbox), brokers.frozen(broker):
        inbox.wait(Disconnected, timeout_s=5)


def test_a_publisher_that_waits_learns_that_the_connection_was_lost(broker: Broker) -> None:
    failures = Mailbox()

    def publish() -> None:
        try:
            device.publish(REPORTED, b"x", timeout_s=30)
        except LinkError as error:
            failures(Disconnected(str(error)))

    with linked(broker.settings(A), Mailbox()) as device:
        with brokers.frozen(broker):
            publisher = threading.Thread(target=publish)
            publisher.start()
            device.rebuild()
            assert "lost" in failures.wait(Disconnected, timeout_s=5).reason
        publisher.join()


def test_a_watchdog_can_have_the_connection_rebuilt(broker: Broker) -> None:
    inbox = Mailbox()
    with linked(broker.settings(A), inbox) as device:
        device.rebuild()

        assert "no progress" in inbox.wait(Disconnected).reason
        inbox.wait(Connected)


def test_an_inbox_that_fails_costs_the_connection_but_not_the_link(broker: Broker) -> None:
    inbox = Mailbox()
    failed = threading.Event()

    def fails_once(event: LinkEvent) -> None:
        if not failed.is_set():
            failed.set()
            raise KeyError("a bug")
        inbox(event)

    device = Link(
        broker.settings(A), subscriptions=[], inbox=fails_once, backoff=Backoff(0.05, 0.2)
    )
    device.start()
    try:
        assert "a bug" in inbox.wait(Disconnected).reason
        inbox.wait(Connected)
    finally:
        device.stop()


def test_many_threads_publish_at_once_and_all_of_it_arrives(broker: Broker) -> None:
    inbox = Mailbox()
    with (
        linked(broker.settings(REGISTRY), inbox, subscriptions=[(REPORTED, 1)]),
        linked(broker.settings(A), Mailbox()) as device,
    ):

        def publish(thread: int) -> None:
            for n in range(25):
                device.publish(REPORTED, f"{thread}:{n}".encode() * 500)

        threads = [threading.Thread(target=publish, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        got = {inbox.message(REPORTED).payload for _ in range(200)}

    assert got == {f"{t}:{n}".encode() * 500 for t in range(8) for n in range(25)}


def test_what_is_published_together_arrives_whole_and_in_order(broker: Broker) -> None:
    sizes = [1, 2, 127, 128, 900, 16_384, 40_000]  # as much as a record of TLS, and more and less
    wanted = [n.to_bytes(4, "big") * sizes[n % len(sizes)] for n in range(700)]
    inbox = Mailbox()
    with (
        linked(broker.settings(REGISTRY), inbox, subscriptions=[(REPORTED, 1)]),
        linked(broker.settings(A), Mailbox()) as device,
    ):
        device.publish_all([(REPORTED, payload) for payload in wanted])
        got = [inbox.message(REPORTED).payload for _ in wanted]

    assert got == wanted


def test_a_client_that_names_another_as_its_client_id_does_not_push_it_out(broker: Broker) -> None:
    own = broker.settings(A)
    impostor = LinkSettings(own.host, own.port, REGISTRY, own.ca_file, own.cert_file, own.key_file)
    inbox = Mailbox()
    with linked(broker.settings(REGISTRY), inbox, subscriptions=[(REPORTED, 0)]):
        with linked(impostor, Mailbox()) as device:
            device.publish(REPORTED, b"both are here")

        inbox.message(REPORTED)
        assert not any(isinstance(event, Disconnected) for event in inbox.events)


def test_a_certificate_that_the_broker_does_not_know_is_named_as_the_reason(
    broker: Broker, tmp_path: Path
) -> None:
    stranger = Authority.open(tmp_path / "other")
    cert_file, key_file = brokers.certify(stranger, tmp_path, A)
    known = broker.settings(A)
    inbox = Mailbox()
    device = _nobody(
        LinkSettings(known.host, known.port, A, known.ca_file, cert_file, key_file), inbox
    )
    device.start()
    try:
        reason = inbox.wait(Disconnected, lambda event: "refused" in event.reason).reason
    finally:
        device.stop()

    assert reason.startswith("the broker refused this certificate")


def test_a_broker_with_a_certificate_of_another_ca_is_not_trusted(
    broker: Broker, tmp_path: Path
) -> None:
    stranger = Authority.open(tmp_path / "other")
    known = broker.settings(A)
    inbox = Mailbox()
    device = _nobody(
        LinkSettings(known.host, known.port, A, stranger.ca_file, known.cert_file, known.key_file),
        inbox,
    )
    device.start()
    try:
        assert "not trusted" in inbox.wait(Disconnected).reason
    finally:
        device.stop()


def test_files_that_are_missing_are_named_and_when_they_come_the_link_comes_up(
    broker: Broker, tmp_path: Path
) -> None:
    known = broker.settings(A)
    assert known.ca_file is not None
    inbox = Mailbox()
    device = _nobody(
        LinkSettings(
            known.host, known.port, A, tmp_path / "ca.pem", known.cert_file, known.key_file
        ),
        inbox,
    )
    device.start()
    try:
        assert "ca.pem" in inbox.wait(Disconnected).reason
        shutil.copy(known.ca_file, tmp_path / "ca.pem")
        inbox.wait(Connected)
    finally:
        device.stop()


def test_a_refused_subscription_is_told_by_name(tmp_path: Path) -> None:
    """Only on NATS: Mosquitto grants any subscription, and then delivers nothing to it."""
    inbox = Mailbox()
    other = topics.render(DeviceId("dev-b"), Channel.DESIRED)
    with brokers.nats(tmp_path, [A]) as broker:
        device = Link(
            broker.settings(A),
            subscriptions=[(DESIRED, 0), (other, 0)],
            inbox=inbox,
            backoff=Backoff(0.05, 0.2),
        )
        device.start()
        try:
            reason = inbox.wait(Disconnected).reason
        finally:
            device.stop()

    assert reason == f"the broker refused the subscription to {other}"


def test_nobody_there_is_told_once_and_a_stop_does_not_wait_for_it(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    inbox = Mailbox()
    settings = LinkSettings(
        "127.0.0.1", brokers.free_port(), A, authority.ca_file,
        authority.registry_cert_file, authority.registry_key_file,
    )  # fmt: skip
    device = _nobody(settings, inbox)
    device.start()
    assert "refused" in inbox.wait(Disconnected).reason
    brokers.eventually(lambda: device._count >= 4, "several more tries")

    began = time.monotonic()
    device.stop()

    assert time.monotonic() - began < 2
    assert inbox.events == []


def test_a_server_that_accepts_and_says_nothing_does_not_hold_up_a_stop(tmp_path: Path) -> None:
    authority = Authority.open(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        settings = LinkSettings(
            "127.0.0.1", mute.getsockname()[1], A, authority.ca_file,
            authority.registry_cert_file, authority.registry_key_file,
        )  # fmt: skip
        device = _nobody(settings, Mailbox())
        device.start()
        mute.accept()[0].close()

        began = time.monotonic()
        device.stop(timeout_s=0.5)

        assert time.monotonic() - began < 2


def test_waits_spread_and_are_short_again_only_after_a_connection_that_stood(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Counting(Backoff):
        resets = 0

        def reset(self) -> None:
            self.resets += 1
            super().reset()

    inbox, backoff = Mailbox(), Counting(0.01, 0.05)
    device = Link(broker.settings(A), subscriptions=[], inbox=inbox, backoff=backoff)
    device.start()
    try:
        inbox.wait(Connected)
        device.rebuild()
        inbox.wait(Disconnected)
        inbox.wait(Connected)
        assert backoff.resets == 0

        monkeypatch.setattr(link, "STEADY_S", 0.0)
        device.rebuild()
        inbox.wait(Disconnected)
        inbox.wait(Connected)
        assert backoff.resets == 1
    finally:
        device.stop()


@pytest.mark.parametrize(
    ("stood_s", "longest_s"),
    [(0.0, 300.0), (4.9, 300.0), (5.0, 20.0), (15.0, 60.0), (59.0, 236.0), (60.0, 2.0)],
)
def test_a_line_that_breaks_every_few_seconds_keeps_nobody_away_for_minutes(
    stood_s: float, longest_s: float
) -> None:
    """At the worst a device is there for a third of the time, and connects every 15 seconds."""
    ceilings = []

    class Ceiling(random.Random):
        def uniform(self, a: float, b: float) -> float:
            ceilings.append(b)
            return a

    backoff = Backoff(2.0, 300.0, rng=Ceiling())
    for _ in range(20):
        link.settle(backoff, 0.0, steady_s=link.STEADY_S)
        backoff.next()

    link.settle(backoff, stood_s, steady_s=link.STEADY_S)
    backoff.next()

    assert ceilings[-1] == longest_s


def test_after_a_lively_connection_a_large_fleet_takes_its_time_all_the_same() -> None:
    waits = []
    for number in range(200):
        backoff = Backoff(1.0, 300.0, rng=random.Random(number))
        backoff.spread(200.0)
        link.settle(backoff, 10.0, steady_s=link.STEADY_S)
        waits.append(backoff.next())

    assert max(waits) > 150.0


def test_a_link_that_has_to_wait_its_turn_connects_late_and_ends_at_once_all_the_same(
    broker: Broker,
) -> None:
    inbox = Mailbox()
    device = Link(broker.settings(A), subscriptions=[], inbox=inbox)
    device.delay(0.5)
    began = time.monotonic()
    device.start()
    inbox.wait(Connected)
    connected = time.monotonic()
    device.stop()
    waiting = Link(broker.settings(A), subscriptions=[], inbox=inbox)
    waiting.delay(3600.0)
    waiting.start()
    asked = time.monotonic()
    waiting.stop(timeout_s=60.0)

    assert connected - began >= 0.5
    assert time.monotonic() - asked < 30.0


def test_links_leave_no_thread_and_no_descriptor_behind(broker: Broker) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.link_leaks"],
        cwd=ROOT,
        input=link_leaks.as_json(broker.settings(A)),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    assert done.stdout.split() == ["0", "0"], done.stderr
