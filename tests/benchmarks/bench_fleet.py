"""How long it takes until a whole fleet has taken over a new desired state, against a bare script.

bare      N paho connections, each with a certificate of its own, in a few processes; one client
          publishes N retained messages of 600 bytes, each connection answers with 600 bytes, all at
          QoS 1; from the first publish to the last answer
simulate  `packhorse simulate --devices N`, each deployment after the first: until the registry's
          database has every device's report that the new generation is durable
          published   from the commit of the desired states, just before the first is published
          asked       from the request, so with the computing of all desired states

Both on the embedded broker, each on one of its own, with TLS, on this machine, in turn: a bare
round before each deployment, so that a machine that is quicker now and slower then is so for both.
All that belongs to the simulation stands still meanwhile (SIGSTOP): its heartbeats cost something.
Goal: for 1,000 devices `published` is at most twice the bare time. Each figure is the median of as
many rounds, with the quickest and the slowest beside it. Prints a table, and at the end the slope:
seconds for each further thousand.

    python tests/benchmarks/bench_fleet.py [--sizes 1000,5000,10000] [--rounds 5]
"""

import argparse
import contextlib
import itertools
import json
import math
import os
import queue
import select
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import paho.mqtt.client as paho
import psutil
from paho.mqtt.enums import CallbackAPIVersion

from cloud.simulation import plan
from cloud.simulation.run import ORDINALS, Wish, run
from runtime import children, credentials, limits, topics
from runtime.link import LinkSettings
from runtime.topics import Channel, DeviceId
from tests.support import brokers

GOAL = 2.0
PAYLOAD_BYTES = 600
OPENERS = 4
PATIENCE_S = 600.0
KEEPALIVE_S = 600
"""Connections that wait for their turn cost next to nothing."""
LOOK_S = 0.05


def client_of(settings: LinkSettings) -> paho.Client:
    """Return a paho client that connects as these settings say."""
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id=credentials.session_name(settings))
    client.tls_set_context(credentials.context(settings))
    client.max_inflight_messages_set(256)
    client.max_queued_messages_set(0)
    return client


class Answering:
    """Connections in one process that answer each message, and nothing else.

    One that the broker drops, or refuses while thousands connect, is made again.
    """

    def __init__(self, links: Sequence[LinkSettings]) -> None:
        self.poll = select.epoll()
        self.clients: dict[int, tuple[paho.Client, LinkSettings]] = {}
        self.opened: queue.SimpleQueue[tuple[paho.Client | None, LinkSettings]] = (
            queue.SimpleQueue()
        )
        self.subscribed: set[str] = set()
        self.pool = ThreadPoolExecutor(OPENERS)
        for link in links:
            self.pool.submit(self._open, link)

    def _open(self, settings: LinkSettings) -> None:
        client, device = client_of(settings), DeviceId(settings.client_id)
        answer = topics.render(device, Channel.REPORTED)

        def connected(*_: Any) -> None:
            client.subscribe(topics.render(device, Channel.DESIRED), 0)

        def heard(_client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
            client.publish(answer, message.payload, 1)

        client.on_connect, client.on_message = connected, heard
        client.on_subscribe = lambda *_: self.subscribed.add(device)
        client.on_socket_register_write = lambda *_: None
        try:
            client.connect(settings.host, settings.port, KEEPALIVE_S)
        except OSError:
            self.opened.put((None, settings))
        else:
            self.opened.put((client, settings))

    def run(self) -> None:
        """Answer until standard input ends."""
        self.poll.register(0, select.EPOLLIN)
        looked_at, told = 0.0, -1
        while True:
            for fd, mask in self.poll.poll(LOOK_S):
                if fd == 0:
                    os._exit(0)  # whatever still waits for a connection waits in vain
                self._work(fd, mask)
            self._take_opened()
            if time.monotonic() - looked_at > KEEPALIVE_S / 5:
                looked_at = time.monotonic()
                for fd in list(self.clients):
                    self.clients[fd][0].loop_misc()
                    self._watch(fd)
            if len(self.subscribed) != told:
                told = len(self.subscribed)
                sys.stdout.write(f"{told}\n")
                sys.stdout.flush()

    def _take_opened(self) -> None:
        while not self.opened.empty():
            client, settings = self.opened.get()
            sock = client.socket() if client is not None else None
            if client is None or sock is None:
                self.pool.submit(self._open, settings)
                continue
            self.clients[sock.fileno()] = client, settings
            self.poll.register(sock.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def _work(self, fd: int, mask: int) -> None:
        client, _ = self.clients[fd]
        if mask & ~select.EPOLLOUT:
            client.loop_read()
            sock: Any = client.socket()
            while sock is not None and sock.pending():
                client.loop_read()
                sock = client.socket()
        if client.want_write():
            client.loop_write()
        self._watch(fd)

    def _watch(self, fd: int) -> None:
        client, settings = self.clients[fd]
        if client.socket() is None:  # the broker dropped it; closed, so no longer polled
            del self.clients[fd]
            self.subscribed.discard(settings.client_id)
            self.pool.submit(self._open, settings)
        else:
            self.poll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if client.want_write() else 0))


def answer_forever() -> None:
    """Be one of the processes that answer."""
    limits.raise_files()
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


@contextlib.contextmanager
def bare(count: int, processes: int) -> Iterator[Callable[[], float]]:
    """Have all connected; what is given does one round and returns its seconds."""
    names, numbers = plan.names(count), itertools.count()
    with (
        tempfile.TemporaryDirectory(prefix="ph-bare-") as place,
        brokers.nats(Path(place), [DeviceId(name) for name in names]) as broker,
        answering(broker, names, processes),
    ):
        yield lambda: _round(broker, names, next(numbers))


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


@contextlib.contextmanager
def frozen(apart: set[int]) -> Iterator[None]:
    """Have all processes that were started here stand still, but for some."""
    ours = [each for each in psutil.Process().children(recursive=True) if each.pid not in apart]
    try:
        for process in ours:
            process.suspend()
        yield
    finally:
        for process in ours:
            process.resume()


def say(text: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tell(text: str) -> None:
    """Say how far it is."""
    sys.stderr.write(text + "\n")


@dataclass(frozen=True)
class Row:
    """What was measured of one size."""

    devices: int
    bare_s: float
    published_s: float
    """From a deployment's desired states in the database to all acknowledged."""
    asked_s: float
    """The same from the request for it."""

    @property
    def ratio(self) -> float:
        """Of what the goal speaks of, over the bare script."""
        return self.published_s / self.bare_s


def rounds_of(found: dict[str, Any], kind: str, rounds: int) -> list[float]:
    """Return the seconds of each deployment after the first; for ever if one was not done."""
    return [found[kind].get(name, math.inf) for name in ORDINALS[1 : rounds + 1]]


def spread(seconds: Sequence[float]) -> str:
    """Return a median, and between what it is."""
    return f"{statistics.median(seconds):.2f} s ({min(seconds):.2f} to {max(seconds):.2f})"


def measure(size: int, rounds: int) -> Row:
    """Print the row of a size; return what the slope needs of it."""
    processes = plan.processes(size, os.cpu_count() or 1, None)
    wish = Wish(
        devices=size,
        profiles={},
        timeout_s=(240 + size * 0.2) * rounds,
        deployments=rounds + 1,
    )
    floors: list[float] = []
    with bare(size, processes) as bare_round:
        apart = {process.pid for process in psutil.Process().children(recursive=True)}

        def before(name: str) -> None:
            if name != ORDINALS[0]:
                with frozen(apart):
                    floors.append(bare_round())

        found = run(wish, tell, before=before)
    asked, published, ran = (
        rounds_of(found, kind, rounds) for kind in ("acknowledged_s", "published_s", "converged_s")
    )
    floor, median = statistics.median(floors), statistics.median(published)
    row = Row(size, floor, median, statistics.median(asked))
    say(
        f"| {size:,} | {spread(floors)} | {spread(published)} | {row.ratio:.2f}"
        f" | {spread(asked)} | {row.asked_s / floor:.2f}"
        f" | {statistics.median(ran):.1f} s | {found['converged']:,}"
        f" | {found['bytes_per_device']:,} | {found['memory_bytes_per_device'] / 1024:.0f} KiB |"
    )
    return row


def tell_slope(rows: Sequence[Row]) -> None:
    """Print what each further thousand devices cost."""
    for before, after in itertools.pairwise(rows):
        thousands = (after.devices - before.devices) / 1000
        say(
            f"{before.devices:,} to {after.devices:,}, each further 1,000:"
            f" bare {(after.bare_s - before.bare_s) / thousands:.2f} s,"
            f" published {(after.published_s - before.published_s) / thousands:.2f} s,"
            f" asked {(after.asked_s - before.asked_s) / thousands:.2f} s"
        )


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", default="1000,5000,10000")
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, len(ORDINALS)))
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.answer:
        answer_forever()
        return
    limits.raise_files()
    say(
        "| devices | bare | published to acknowledged | / bare | asked to acknowledged | / bare"
        " | asked to running | converged | bytes each | memory each |"
    )
    say("|---|---|---|---|---|---|---|---|---|---|")
    rows = [measure(int(size), chosen.rounds) for size in chosen.sizes.split(",")]
    say(f"\ngoal at 1,000: published to acknowledged / bare <= {GOAL:g}")
    tell_slope(rows)


if __name__ == "__main__":
    main()
