"""Records per second from the broker to durable rows, against the bare parts of the same work.

The bare side: a paho loop that receives the same messages and acks them, then `executemany` of the
same rows, made ready beforehand, by sqlite3 alone (same schema, same pragmas, one transaction per
64 batches). It decodes nothing, checks nothing, and acks before it stores. Both sides take messages
that wait in the embedded broker, QoS 1, lasting session. Goal: ours / bare >= 0.5. Prints JSON.

    python tests/benchmarks/bench_ingest.py [--rounds 5] [--batches 80] [--records 500]
"""

import argparse
import contextlib
import json
import random
import sqlite3
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from cloud.crew import Crew
from cloud.messaging import intake
from cloud.messaging.ingest import GROUP
from cloud.messaging.record_rows import COLUMNS, readied, record_rows
from cloud.messaging.wire import BrokerLogin, Wire
from cloud.services import Services
from cloud.turns import Turn
from runtime import batches, topics
from runtime.link import Link, LinkEvent, LinkSettings, Received
from runtime.topics import REGISTRY_USER, Channel, DeviceId
from tests.support import brokers, links, records, registry_rows
from tests.support.brokers import Broker

DEVICE = DeviceId("dev-a")
TOPIC = topics.render(DEVICE, Channel.TELEMETRY)
GOAL = 0.5


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--batches", type=int, default=80)
    options.add_argument("--records", type=int, default=500)
    chosen = options.parse_args()
    ours, receive, insert = [], [], []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(chosen.rounds):
            place = Path(scratch) / str(number)
            payloads = make_payloads(chosen.batches, chosen.records)
            with brokers.nats(place / "broker", devices=[DEVICE]) as broker:
                wait_in_broker(broker, payloads)
                ours.append(ingest(broker, place / "ours", len(payloads) * chosen.records))
                wait_in_broker(broker, payloads)
                receive.append(bare_receive(broker, len(payloads)))
            insert.append(bare_insert(place / "bare", payloads))
    count = chosen.batches * chosen.records
    bare = [got + stored for got, stored in zip(receive, insert, strict=True)]
    ratio = statistics.median(bare) / statistics.median(ours)
    print(  # noqa: T201 - its output is the point
        json.dumps(
            {
                "bench": "ingest",
                "records": count,
                "batches": chosen.batches,
                "rounds": chosen.rounds,
                "ours_records_per_s": round(count / statistics.median(ours)),
                "bare_records_per_s": round(count / statistics.median(bare)),
                "bare_receive_s": round(statistics.median(receive), 4),
                "bare_insert_s": round(statistics.median(insert), 4),
                "ours_s": round(statistics.median(ours), 4),
                "ratio": round(ratio, 3),
                "goal": GOAL,
                "ok": ratio >= GOAL,
            }
        )
    )


def make_payloads(count: int, size: int) -> list[bytes]:
    """Return batches as a device sends them."""
    rng = random.Random(1)
    return [
        batches.encode_batch(
            device=DEVICE,
            epoch="e1",
            sequence=number + 1,
            sent_at=1_800_000_000.0,
            records=[records.digits(number * size + n, rng) for n in range(size)],
        )
        for number in range(count)
    ]


def wait_in_broker(broker: Broker, payloads: list[bytes]) -> None:
    """Leave the messages with the broker, for a session that is not connected now."""
    with links.linked(
        lasting(broker), links.Mailbox(), subscriptions=intake.subscriptions(Channel.TELEMETRY)
    ):
        pass
    with links.linked(broker.settings(DEVICE), links.Mailbox()) as device:
        for payload in payloads:
            device.publish(TOPIC, payload)


def lasting(broker: Broker) -> Any:
    """Return how the ingester connects."""
    return LinkSettings(
        **{
            **vars(broker.settings(REGISTRY_USER, clean_session=False)),
            "client_id": intake.client_id(Channel.TELEMETRY),
        }
    )


def ingest(broker: Broker, data: Path, count: int) -> float:
    """Return the seconds from connecting to `count` durable rows."""
    with opened(data) as services:
        login = broker.settings(REGISTRY_USER)
        assert login.ca_file
        assert login.cert_file
        assert login.key_file
        crew = Crew()
        wire = Wire(
            services,
            BrokerLogin(login.host, login.port, login.ca_file, login.cert_file, login.key_file),
            crew,
            Turn(services.engine),
            base_url="https://localhost",
        )
        began = time.perf_counter()
        wire.start()
        seen, tick = sqlite3.connect(data / "registry.db"), threading.Event()
        query = "SELECT coalesce(sum(records), 0) FROM batch"
        while seen.execute(query).fetchone()[0] < count:
            tick.wait(0.005)
        took = time.perf_counter() - began
        seen.close()
        crew.stopping.set()
        wire.part()
        assert crew.stop(10.0) == []
    return took


@contextlib.contextmanager
def opened(data: Path) -> Iterator[Services]:
    """Open a registry that knows the device."""
    with registry_rows.services(data) as services:
        registry_rows.add_device(services, DEVICE)
        yield services


def bare_receive(broker: Broker, count: int) -> float:
    """Return the seconds from connecting to the last of `count` messages."""
    done, got = threading.Event(), 0
    link: Link

    def take(event: LinkEvent) -> None:
        nonlocal got
        if isinstance(event, Received):
            link.ack(event)
            got += 1
            if got == count:
                done.set()

    link = Link(lasting(broker), subscriptions=intake.subscriptions(Channel.TELEMETRY), inbox=take)
    began = time.perf_counter()
    link.start()
    assert done.wait(60.0)
    took = time.perf_counter() - began
    link.stop()
    return took


def bare_insert(data: Path, payloads: list[bytes]) -> float:
    """Return the seconds that sqlite3 alone needs for the same rows."""
    groups: list[list[tuple[Any, ...]]] = []
    for number, payload in enumerate(payloads):
        header, body = batches.unwrap(payload)
        if number % GROUP == 0:
            groups.append([])
        groups[-1] += record_rows(
            header, readied(batches.decode_columns(body)), batch_id=number + 1, received_at=1.8e9
        )
    with opened(data):
        pass
    database = sqlite3.connect(data / "registry.db", isolation_level=None)
    database.execute("PRAGMA synchronous=FULL")
    database.executemany(
        "INSERT INTO batch (id, device, epoch, sequence, sent_at, received_at, records, size_bytes)"
        " VALUES (?, ?, 'e1', ?, 0, 0, 0, 0)",
        [(number + 1, DEVICE, number + 1) for number in range(len(payloads))],
    )
    marks = ", ".join("?" for _ in COLUMNS)
    statement = f"INSERT INTO record ({', '.join(COLUMNS)}) VALUES ({marks})"  # noqa: S608
    began = time.perf_counter()
    for group in groups:
        database.execute("BEGIN IMMEDIATE")
        database.executemany(statement, group)
        database.execute("COMMIT")
    took = time.perf_counter() - began
    database.close()
    return took


if __name__ == "__main__":
    main()
