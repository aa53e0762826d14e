"""How long it takes until a whole fleet has taken over a new desired state, against a bare script.

bare      N paho connections, each with a certificate of its own, in a few processes; one client
          publishes N retained messages of 600 bytes, each connection answers with 600 bytes, all at
          QoS 1; from the first publish to the last answer
simulate  `packhorse simulate --devices N`: from the request for a deployment until the registry's
          database has every device's report that the new generation is durable

Both on the embedded broker, with TLS, on this machine, one after the other. Goal: for 1,000 devices
at most twice the time. Prints a table, and at the end the slope: seconds for each further thousand.

    python tests/benchmarks/bench_fleet.py [--sizes 1000,5000,10000] [--rounds 3]
"""

import argparse
import contextlib
import json
import os
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from cloud.simulation import plan
from cloud.simulation.run import Wish, run
from runtime import children, credentials, topics
from runtime.link import LinkSettings
from runtime.topics import Channel, DeviceId
from tests.support import brokers

GOAL = 2.0
PAYLOAD_BYTES = 600
OPENERS = 4
PATIENCE_S = 600.0
KEEPALIVE_S = 60


def client_of(settings: LinkSettings) -> paho.Client:
    """Return a paho client that connects as these settings say."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=credentials.session_name(settings))
    client.tls_set_context(credentials.context(settings))
    client.max_inflight_messages_set(256)
    client.max_queued_messages_set(0)
    return client


class Answering:
    """Connections in one process that answer each message, and nothing else."""

    def __init__(self, links: Sequence[LinkSettings]) -> None:
        self.poll = select.epoll()
        self.clients: dict[int, paho.Client] = {}
        self.ready = 0
        with ThreadPoolExecutor(OPENERS) as pool:
            opened = list(pool.map(self._open, links))
        for client in opened:
            sock = client.socket()
            self.clients[sock.fileno()] = client
            self.poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _open(self, settings: LinkSettings) -> paho.Client:
        client, device = client_of(settings), DeviceId(settings.client_id)
        answer = topics.render(device, Channel.REPORTED)

        def connected(*_: Any) -> None:
            client.subscribe(topics.render(device, Channel.DESIRED), 0)

        def subscribed(*_: Any) -> None:
            self.ready += 1

        def heard(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
            client.publish(answer, message.payload, 1)

        client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, heard
        client.on_socket_register_write = lambda *_: None
        client.connect(settings.host, settings.port, KEEPALIVE_S)
        return client

    def run(self) -> None:
        """Answer until standard input ends."""
        self.poll.register(0, select.EPOLLIN)
        looked_at = told = 0.0
        while True:
            for fd, mask in self.poll.poll(0.2):
                if fd == 0:
                    return
                self._work(fd, mask)
            if time.monotonic() - looked_at > KEEPALIVE_S / 5:
                looked_at = time.monotonic()
                for client in self.clients.values():
                    client.loop_misc()
            if self.ready != told:
                told = self.ready
                sys.stdout.write(f"{self.ready}\n")
                sys.stdout.flush()

    def _work(self, fd: int, mask: int) -> None:
        client = self.clients[fd]
        if mask & select.EPOLLIN:
            client.loop_read()
            sock: Any = client.socket()
            while sock is not None and sock.pending():
                client.loop_read()
        if client.want_write():
            client.loop_write()
        self.poll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if client.want_write() else 0))


def answer_forever() -> None:
    """Be one of the processes that answer."""
    told = json.loads(sys.stdin.readline())
    links = [
        LinkSettings(
            host=told["host"],
            port=told["port"],
            client_id=device,
            ca_file=Path(told["ca"]),
            cert_file=Path(told["at"]) / f"{device}.pem",
            key_file=Path(told["at"]) / f"{device}.key",
        )
        for device in told["devices"]
    ]
    Answering(links).run()


@contextlib.contextmanager
def answering(broker: brokers.Broker, names: Sequence[str], processes: int) -> Iterator[None]:
    """Have all devices connected, and answer."""
    started = []
    for part in plan.share(names, processes):
        any_link = broker.settings(part[0])
        assert any_link.cert_file is not None
        told = {
            "host": any_link.host,
            "port": any_link.port,
            "ca": str(any_link.ca_file),
            "at": str(any_link.cert_file.parent),
            "devices": part,
        }
        child = children.spawn(
            [sys.executable, __file__, "--answer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(told).encode() + b"\n")
        child.stdin.flush()
        started.append((child, len(part)))
    try:
        for child, count in started:
            assert child.stdout is not None
            while int(child.stdout.readline() or b"-1") < count:
                assert child.poll() is None, "a process that answers has ended"
        yield
    finally:
        for child, _ in started:
            children.stop(child, grace_s=2)


def bare(count: int, processes: int, rounds: int) -> list[float]:
    """Return the seconds of each round."""
    names = plan.names(count)
    with (
        tempfile.TemporaryDirectory(prefix="ph-bare-") as place,
        brokers.nats(Path(place), [DeviceId(name) for name in names]) as broker,
        answering(broker, names, processes),
    ):
        return [_round(broker, names, number) for number in range(rounds)]


def _round(broker: brokers.Broker, names: Sequence[str], number: int) -> float:
    client = client_of(broker.settings(topics.REGISTRY_USER))
    heard: set[str] = set()
    subscribed, done = threading.Event(), threading.Event()
    payload = f"{number:{PAYLOAD_BYTES}d}".encode()

    def on_message(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.payload == payload:
            heard.add(message.topic)
            if len(heard) == len(names):
                done.set()

    client.on_message = on_message
    client.on_subscribe = lambda *_: subscribed.set()
    client.connect(broker.settings(topics.REGISTRY_USER).host, _port(broker), KEEPALIVE_S)
    client.loop_start()
    client.subscribe(topics.every_device(Channel.REPORTED), 1)
    assert subscribed.wait(30)
    began = time.monotonic()
    for name in names:
        client.publish(topics.render(DeviceId(name), Channel.DESIRED), payload, 1, retain=True)
    assert done.wait(PATIENCE_S), f"{len(heard)} of {len(names)} answered"
    seconds = time.monotonic() - began
    client.disconnect()
    client.loop_stop()
    return seconds


def _port(broker: brokers.Broker) -> int:
    return broker.settings(topics.REGISTRY_USER).port


def say(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Say how far it is."""
    sys.stderr.write(text + "\n")


def measure(size: int, rounds: int) -> tuple[float, float]:
    """Print the row of a size; return the seconds of the bare script, and ours."""
    processes = plan.processes(size, os.cpu_count() or 1, None)
    floor = statistics.median(bare(size, processes, rounds))
    found = run(Wish(devices=size, profiles={}, timeout_s=120 + size * 0.2), tell)
    acknowledged, ran = found["acknowledged_s"], found["converged_s"].get("second")
    first, second = acknowledged.get("first"), acknowledged.get("second", float("inf"))
    say(
        f"| {size:,} | {floor:.2f} s | {first} s | {second} s | {second / floor:.2f} | {ran} s"
        f" | {found['converged']:,} | {found['bytes_per_device']:,} |"
    )
    return floor, second


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1000,5000,10000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.answer:
        answer_forever()
        return
    say(
        "| devices | bare | first | second | second / bare | second runs | converged | bytes each |"
    )
    say("|---|---|---|---|---|---|---|---|")
    sizes = [int(size) for size in chosen.sizes.split(",")]
    found = [measure(size, chosen.rounds) for size in sizes]
    say(f"\ngoal at 1,000: second / bare <= {GOAL:g}")
    if len(sizes) > 1:
        thousands = (sizes[-1] - sizes[0]) / 1000
        ours, theirs = ((found[-1][kind] - found[0][kind]) / thousands for kind in (1, 0))
        say(f"each further 1,000 devices: bare {theirs:.2f} s, simulate {ours:.2f} s")


if __name__ == "__main__":
    main()
