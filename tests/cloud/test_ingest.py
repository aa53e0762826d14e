import queue
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy.exc import OperationalError
from sqlmodel import select

from cloud import tables
from cloud.messaging import ingest
from cloud.messaging.ingest import Ingester
from cloud.messaging.intake import Arrival
from cloud.messaging.record_rows import made_at
from cloud.services import Services
from runtime import batches, topics
from runtime.batches import Record
from runtime.errors import LinkError
from runtime.link import Received
from runtime.messages import Ack
from runtime.topics import Channel, DeviceId
from tests.support import records, registry_rows
from tests.support.registries import Stores

NOW = 1_800_000_000.0
A, B = DeviceId("dev-a"), DeviceId("dev-b")


@pytest.fixture
def services(tmp_path: Path, stores: Stores) -> Iterator[Services]:
    with registry_rows.services(tmp_path, stores=stores) as opened:
        registry_rows.add_device(opened, A)
        registry_rows.add_device(opened, B)
        yield opened


class Desk:
    """An ingester, and what it told to whom."""

    def __init__(self, services: Services) -> None:
        self.told: list[tuple[DeviceId, Ack]] = []
        self.acked: list[int] = []
        self.link_is_down = False
        self.services = services
        self.ingester = Ingester(
            services,
            queue.Queue(),
            ack=lambda message: self.acked.append(message.mid),
            tell=self._tell,
        )

    def _tell(self, device: DeviceId, ack: Ack) -> None:
        if self.link_is_down:
            raise LinkError("not connected")
        self.told.append((device, ack))

    def rows(self) -> list[tables.Record]:
        with self.services.reading() as session:
            return list(session.exec(select(tables.Record).order_by("id")))

    def rejected(self) -> list[tables.RejectedBatch]:
        with self.services.reading() as session:
            return list(session.exec(select(tables.RejectedBatch)))


@pytest.fixture
def desk(services: Services) -> Desk:
    return Desk(services)


def arrival(payload: bytes, *, device: DeviceId = A, mid: int = 1) -> Arrival:
    topic = topics.render(device, Channel.TELEMETRY)
    return Arrival(device, Received(topic, payload, mid, retained=False, qos=1), NOW)


def batch(
    sequence: int, made: list[Record] | None = None, *, device: DeviceId = A, sent_at: float = NOW
) -> bytes:
    if made is None:
        made = [records.digits(10 * sequence + n, random.Random(n)) for n in range(3)]
    return batches.encode_batch(
        device=device, epoch="e1", sequence=sequence, sent_at=sent_at, records=made
    )


def record(at: float = NOW - 5, **more: object) -> Record:
    fields = {
        "at": at, "module": "m", "bundle": "ab" * 32, "model": "m", "version": 1, "latency_ms": 0.5
    }  # fmt: skip
    return msgspec.convert({**fields, **more}, Record)


def test_records_arrive_as_they_were_made(desk: Desk) -> None:
    made = [
        record(outputs={"y": [1.5, 2]}, inputs={"x": [[1]]}, request="r1"),
        record(error="it broke", source="directory:inbox", item="a.csv#1", kind="alarm"),
    ]

    desk.ingester.handle([arrival(batch(1, made))])

    rows = desk.rows()
    assert [(row.place, row.device, row.at) for row in rows] == [(0, A, NOW - 5), (1, A, NOW - 5)]
    assert (rows[0].outputs, rows[0].inputs, rows[0].request) == (
        {"y": [1.5, 2]},
        {"x": [[1]]},
        "r1",
    )
    assert (rows[1].outputs, rows[1].error, rows[1].item) == (None, "it broke", "a.csv#1")
    assert not rows[0].time_estimated


def test_each_device_is_told_what_is_stored_and_the_broker_may_forget(desk: Desk) -> None:
    desk.ingester.handle(
        [
            arrival(batch(1), mid=11),
            arrival(batch(7, device=B), device=B, mid=12),
            arrival(batch(2), mid=13),
        ]
    )

    assert desk.told == [(A, Ack("e1", stored=(1, 2))), (B, Ack("e1", stored=(7,)))]
    assert desk.acked == [11, 12, 13]


def test_a_batch_that_comes_again_is_acked_and_not_stored_again(desk: Desk) -> None:
    """The broker redelivers, or the device sends again because the ack was lost."""
    desk.ingester.handle([arrival(batch(1)), arrival(batch(1))])
    desk.ingester.handle([arrival(batch(1)), arrival(batch(2))])

    assert len(desk.rows()) == 6
    assert desk.told == [(A, Ack("e1", stored=(1, 1))), (A, Ack("e1", stored=(1, 2)))]


def test_a_lost_ack_costs_nothing_but_a_repetition(desk: Desk) -> None:
    desk.link_is_down = True
    desk.ingester.handle([arrival(batch(1))])
    desk.link_is_down = False
    desk.ingester.handle([arrival(batch(1))])

    assert len(desk.rows()) == 3
    assert desk.told == [(A, Ack("e1", stored=(1,)))]


def test_the_same_number_of_another_device_or_epoch_is_another_batch(desk: Desk) -> None:
    other = batches.encode_batch(device=A, epoch="e2", sequence=1, sent_at=NOW, records=[record()])
    desk.ingester.handle([arrival(batch(1)), arrival(batch(1, device=B), device=B), arrival(other)])

    assert len(desk.rows()) == 7


def test_what_cannot_be_read_is_set_aside_and_does_not_come_again(desk: Desk) -> None:
    whole = batch(5)
    header, body = batches.unwrap(whole)
    damaged = batches.wrap(header, body[:-3])

    desk.ingester.handle([arrival(batch(4)), arrival(damaged, mid=2)])

    assert desk.told == [(A, Ack("e1", stored=(4,), rejected=(5,)))]
    (kept,) = desk.rejected()
    assert (kept.device, kept.sequence, kept.payload) == (A, 5, damaged)
    assert "zstd" in kept.reason
    assert desk.acked == [1, 2]


def test_a_batch_without_a_readable_number_is_kept_but_cannot_be_acked(desk: Desk) -> None:
    desk.ingester.handle([arrival(b"\xffnonsense" * 20_000)])

    assert desk.told == []
    assert len(desk.rejected()[0].payload) == ingest.KEPT_BYTES
    assert desk.acked == [1]


def test_one_device_cannot_fill_the_disk_with_nonsense(desk: Desk) -> None:
    for _ in range(3):
        desk.ingester.handle([arrival(b"nonsense")] * 50)

    assert len(desk.rejected()) == ingest.KEPT_REJECTED


def test_a_device_cannot_speak_for_another(desk: Desk) -> None:
    desk.ingester.handle([arrival(batch(3, device=B), device=A)])

    assert desk.rows() == []
    assert desk.told == [(A, Ack("e1", rejected=(3,)))]
    assert "dev-b" in desk.rejected()[0].reason


def test_an_unknown_and_a_revoked_device_are_not_heard(desk: Desk, services: Services) -> None:
    with services.transaction() as session:
        row = session.get(tables.Device, B)
        assert row is not None
        row.revoked_at = NOW
    stranger = DeviceId("stranger")

    desk.ingester.handle(
        [
            arrival(batch(1, device=B), device=B, mid=1),
            arrival(batch(1, device=stranger), device=stranger, mid=2),
            arrival(b"nonsense", device=stranger, mid=3),
        ]
    )

    assert (desk.rows(), desk.rejected(), desk.told) == ([], [], [])
    assert desk.acked == [1, 2, 3]


def test_a_value_that_the_database_cannot_hold_harms_only_its_own_batch(desk: Desk) -> None:
    desk.ingester.handle([arrival(batch(1)), arrival(batch(2, [record(version=1 << 63)]))])

    assert len(desk.rows()) == 3
    assert desk.told == [(A, Ack("e1", stored=(1,), rejected=(2,)))]


@pytest.mark.parametrize("stores", ["sqlite+directory"], indirect=True)
def test_nothing_is_acked_while_the_database_is_busy(desk: Desk, services: Services) -> None:
    path = services.settings.data / "registry.db"
    for connection in (services.engine.connect(), services.engine.connect()):
        connection.exec_driver_sql("PRAGMA busy_timeout=50")
        connection.close()
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(OperationalError, match="locked"):
            desk.ingester.handle([arrival(batch(1))])
    finally:
        blocker.execute("ROLLBACK")
        blocker.close()
    assert (desk.told, desk.acked) == ([], [])

    desk.ingester.handle([arrival(batch(1))])

    assert len(desk.rows()) == 3


@pytest.mark.parametrize(
    ("at", "sent_at", "expected"),
    [
        (NOW - 60, NOW, (NOW - 60, False)),
        (100.0, 160.0, (NOW - 60, True)),
        (100.0, NOW, (NOW, True)),
        (160.0, 100.0, (NOW, True)),
        (NOW * 3, NOW * 3 + 60, (NOW - 60, True)),
    ],
    ids=["right", "no clock", "set in between", "set back", "far ahead"],
)
def test_a_time_that_cannot_be_is_worked_out(
    at: float, sent_at: float, expected: tuple[float, bool]
) -> None:
    assert made_at(at, sent_at=sent_at, received_at=NOW) == expected


def test_records_of_a_device_without_a_clock_are_marked(desk: Desk) -> None:
    desk.ingester.handle([arrival(batch(1, [record(at=100.0)], sent_at=130.0))])

    (row,) = desk.rows()
    assert (row.at, row.time_estimated) == (NOW - 30, True)
