import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from edge_agent.telemetry.batcher import Batcher
from edge_agent.telemetry.intake import SpoolIntake
from edge_agent.telemetry.outbox import Intake, Outbox, OutboxStats
from edge_agent.telemetry.outboxfile import OutboxError
from edge_agent.telemetry.path import TelemetryPath, TelemetrySettings
from edge_agent.telemetry.spool import SpoolWriter
from runtime import batches, topics
from runtime.batches import Batch, Record
from runtime.errors import LinkError
from runtime.messages import Ack
from tests.support import powercuts
from tests.support.brokers import eventually
from tests.support.records import frame

DEVICE = topics.device_id("dev-1")
NOW = 1_800_000_000.0
QUICK = TelemetrySettings(flush_s=0.05, resend_s=0.2, stall_s=0.3)
SOURCE = "directory:/in"


class Registry:
    """The far end of the link: keeps each number once, and acknowledges when told to."""

    def __init__(self) -> None:
        self.path: TelemetryPath | None = None
        self.online = True
        self.acknowledging = True
        self.refused: Callable[[Batch], bool] = lambda _batch: False
        self.arrived: list[Batch] = []
        self.stored: dict[tuple[str, int], Batch] = {}

    def publish(self, payload: bytes) -> None:
        """Stand where the link is."""
        assert self.path is not None
        batch = batches.decode_batch(payload)
        if not self.online:
            raise LinkError("offline")
        if self.refused(batch):
            self.path.on_disconnected()
            self.path.on_connected()
            raise LinkError("the connection broke")
        self.arrived.append(batch)
        self.stored[batch.epoch, batch.sequence] = batch
        if self.acknowledging:
            self.path.on_ack(Ack(batch.epoch, stored=(batch.sequence,)))

    @property
    def items(self) -> list[str | None]:
        """What was stored, in the order of the batches' numbers."""
        return [record.item for key in sorted(self.stored) for record in self.stored[key].records]


class Device:
    """The path under test, with one module's worker."""

    def __init__(self, directory: Path, settings: TelemetrySettings = QUICK) -> None:
        self.spools = directory / "spool"
        self.writer = SpoolWriter(self.spools / "digits", segment_bytes=2000)
        self.registry = Registry()
        self.count = 0
        self.outbox_path = directory / "outbox" / "outbox.db"
        self.start(settings)

    def start(self, settings: TelemetrySettings = QUICK) -> None:
        self.outbox = Outbox(self.outbox_path)
        self.path = TelemetryPath(
            self.outbox, self.spools, self.registry.publish, device=DEVICE, settings=settings
        )
        self.registry.path = self.path
        self.path.start()

    def stop(self) -> None:
        self.path.stop()
        self.outbox.close()

    def predict(self, count: int, kind: str = "result") -> None:
        for _ in range(count):
            self.writer.append(frame(_record(self.count, kind)))
            self.count += 1
        self.path.spooled("digits")

    def settled(self) -> bool:
        stats = self.path.stats()
        return stats.outbox_batches == 0 and len(self.registry.items) == self.count

    @property
    def expected(self) -> list[str]:
        return [str(number) for number in range(self.count)]


def _record(number: int, kind: str = "result") -> Record:
    return Record(
        at=NOW + number,
        module="digits",
        bundle="ab" * 32,
        model="digits",
        version=1,
        latency_ms=0.5,
        outputs={"label": [number % 10]},
        source=SOURCE,
        item=str(number),
        position=f"row {number}",
        kind=kind,
    )


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Device]:
    made = Device(tmp_path)
    yield made
    made.stop()


def test_records_reach_the_registry_once_and_in_order_and_leave_the_disk(device: Device) -> None:
    device.path.on_connected()
    for _ in range(20):
        device.predict(13)

    eventually(device.settled, "all stored and acknowledged")
    device.writer.close()
    device.path.drain("digits")

    assert device.registry.items == device.expected
    assert len(device.registry.arrived) == len(device.registry.stored)
    assert list((device.spools / "digits").iterdir()) == []


def test_many_records_make_full_batches(tmp_path: Path) -> None:
    device = Device(tmp_path, TelemetrySettings(flush_records=100, flush_s=60.0))
    device.path.on_connected()
    device.predict(350)

    eventually(lambda: len(device.registry.items) >= 300, "full batches")
    device.stop()

    assert {len(batch.records) for batch in device.registry.arrived[:-1]} <= {100, 200, 300, 350}
    assert device.path.positions("digits") == {SOURCE: "row 349"}
    device.outbox.close()


def test_an_alarm_does_not_wait_for_company(tmp_path: Path) -> None:
    device = Device(tmp_path, TelemetrySettings(flush_s=3600.0))
    device.path.on_connected()
    device.predict(1, "alarm")

    eventually(device.settled, "the alarm arrived")
    device.stop()


def test_what_lay_in_the_spools_before_the_start_is_sent(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "spool" / "vibration")
    writer.append(frame(_record(0)))
    writer.close()
    device = Device(tmp_path)
    device.path.on_connected()

    eventually(lambda: device.registry.items == ["0"], "the old record arrived")
    device.stop()


def test_records_wait_on_the_disk_while_offline_and_go_when_connected(device: Device) -> None:
    device.predict(30)
    device.path.drain("digits")
    assert device.path.stats().outbox_records == 30
    assert device.registry.arrived == []

    device.path.on_connected()

    eventually(device.settled, "all stored")
    assert device.registry.items == device.expected


def test_a_link_that_refuses_is_tried_again_without_being_told(device: Device) -> None:
    device.registry.online = False
    device.path.on_connected()
    device.predict(3)
    eventually(lambda: device.path.stats().outbox_records == 3, "in the outbox")
    device.registry.online = True

    eventually(device.settled, "all stored")


def test_an_unacknowledged_batch_is_sent_again_until_it_is(device: Device) -> None:
    device.registry.acknowledging = False
    device.path.on_connected()
    device.predict(3)
    eventually(lambda: len(device.registry.arrived) >= 2, "sent again")
    assert device.path.stats().outbox_records == 3
    device.registry.acknowledging = True

    eventually(device.settled, "acknowledged")
    assert device.registry.items == device.expected


def test_a_new_connection_sends_again_what_was_under_way(tmp_path: Path) -> None:
    device = Device(tmp_path, TelemetrySettings(flush_s=0.05, resend_s=3600.0))
    device.registry.acknowledging = False
    device.path.on_connected()
    device.predict(3)
    eventually(lambda: len(device.registry.arrived) == 1, "sent")
    device.registry.acknowledging = True
    device.path.on_disconnected()
    device.path.on_connected()

    eventually(device.settled, "acknowledged")
    device.stop()


def test_no_more_than_a_window_of_batches_is_under_way(tmp_path: Path) -> None:
    device = Device(tmp_path, TelemetrySettings(flush_records=1, window=4, resend_s=3600.0))
    device.registry.acknowledging = False
    for _ in range(10):
        device.predict(1)
        device.path.drain("digits")
    device.path.on_connected()
    eventually(lambda: len(device.registry.arrived) == 4, "a window")

    first = device.registry.arrived[0]
    device.path.on_ack(Ack(first.epoch, stored=(first.sequence,)))
    eventually(lambda: len(device.registry.arrived) == 5, "one more")
    device.registry.acknowledging = True
    device.path.on_connected()
    eventually(device.settled, "all stored")
    device.stop()


def test_a_restart_sends_the_same_number_again(device: Device) -> None:
    device.registry.acknowledging = False
    device.path.on_connected()
    device.predict(5)
    eventually(lambda: len(device.registry.arrived) >= 1, "sent")
    device.stop()
    device.registry.acknowledging = True
    device.start()
    device.path.on_connected()

    eventually(device.settled, "acknowledged")
    assert device.registry.items == device.expected


def test_an_acknowledgement_of_another_epoch_means_nothing(device: Device) -> None:
    device.predict(3)
    device.path.drain("digits")
    device.path.on_ack(Ack("another", stored=(1, 2, 3), rejected=(1,)))
    device.path.on_connected()

    eventually(device.settled, "all stored")
    assert device.path.stats().drops == {}


def test_a_batch_that_the_registry_cannot_read_is_dropped_and_counted(device: Device) -> None:
    device.registry.acknowledging = False
    device.predict(3)
    device.path.drain("digits")
    device.path.on_ack(Ack(device.outbox.epoch, rejected=(1,)))

    eventually(lambda: device.path.stats().outbox_batches == 0, "dropped")
    assert device.path.stats().drops == {"rejected": 3}


def test_drain_makes_positions_known(device: Device) -> None:
    assert device.path.positions("digits") == {}
    device.writer.append(frame(_record(1)))
    device.writer.append(frame(_record(2)))

    device.path.drain("digits")

    assert device.path.positions("digits") == {SOURCE: "row 2"}
    device.path.drain("a module without a spool")


def test_a_disk_that_cannot_be_written_keeps_records_in_the_spool_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There they are made durable: the outbox, which does that otherwise, cannot."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    (tmp_path / "outbox").write_bytes(b"a file where the directory should be")
    device = Device(tmp_path)
    device.path.on_connected()
    device.predict(5)

    with pytest.raises(OutboxError):
        device.path.drain("digits")
    assert any("outbox" in trouble for trouble in device.path.stats().troubles)
    eventually(lambda: len(synced) >= 2, "segment and directory are synced")
    (tmp_path / "outbox").unlink()

    eventually(device.settled, "all stored")
    assert device.registry.items == device.expected
    eventually(lambda: device.path.stats().troubles == (), "no trouble left")
    device.stop()


def test_what_is_no_record_is_counted_and_the_rest_goes_on(device: Device) -> None:
    device.path.on_connected()
    device.writer.append(b"no record")
    device.path.drain("digits")
    device.writer.append(b"no record either")
    device.predict(2)

    eventually(device.settled, "the records arrived")
    assert device.path.stats().drops == {"unreadable": 2}


def test_a_damaged_segment_is_counted_and_the_rest_goes_on(device: Device) -> None:
    damaged = device.spools / "digits" / "damaged"
    damaged.write_bytes(b"\xff" * 50)
    # All at once: the intake reads from the start, and takes away a segment that is empty.
    damaged.rename(device.spools / "digits" / "0000000000000000-00000000.log")
    device.path.on_connected()
    device.predict(2)
    eventually(device.settled, "the records arrived")
    device.predict(1)

    eventually(device.settled, "and the next")
    assert device.path.stats().drops == {"spool_damaged": 1}


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_count_asked_for_during_its_commit_is_neither_missed_nor_told_twice(
    tmp_path: Path, moment: str
) -> None:
    asked: list[dict[str, int]] = []

    class Asked(Outbox):
        """Has someone ask for the counts just before or just after they are durable."""

        def add(self, intake: Intake, now: float) -> list[int]:
            if moment == "before":
                asker.start()
            numbers = super().add(intake, now)
            if moment == "after":
                asker.start()
                asker.join(0.2)
            return numbers

        def stats(self) -> OutboxStats:
            seen = super().stats()
            if moment == "before":
                committed.wait(0.2)
            return seen

    def ask() -> None:
        seen, drops = intake.stats()
        asked.append(Counter(seen.drops) + Counter(drops))

    asker, committed = threading.Thread(target=ask), threading.Event()
    outbox = Asked(tmp_path / "outbox.db")
    intake = SpoolIntake(outbox, tmp_path / "spool", Batcher(), lambda: NOW)
    intake.drop("spool_full")

    intake.flush()
    committed.set()
    asker.join()
    outbox.close()

    assert asked == [{"spool_full": 1}]


def test_a_batch_that_breaks_every_connection_is_set_aside_and_the_others_go_on(
    device: Device,
) -> None:
    device.registry.refused = lambda batch: batch.records[0].item == "2"
    for _ in range(30):
        device.predict(1)
        device.path.drain("digits")
    device.path.on_connected()

    eventually(lambda: device.path.stats().outbox_batches == 0, "nothing waits", timeout_s=30.0)
    assert device.registry.items == [item for item in device.expected if item != "2"]
    assert device.path.stats().drops == {"poison": 1}
    assert device.path.stats().dead_batches == 1


def test_a_suspect_that_is_evicted_holds_nobody_up(device: Device) -> None:
    device.registry.refused = lambda batch: batch.sequence == 1
    device.predict(1, "debug")
    device.path.drain("digits")
    device.path.on_connected()
    device.predict(1)
    device.path.drain("digits")
    device.outbox.delete([1])
    device.predict(1)
    eventually(lambda: len(device.registry.stored) == 2, "the others are stored")
    device.registry.acknowledging = False
    for _ in range(4):
        device.predict(1)
        device.path.drain("digits")

    eventually(lambda: len(device.registry.stored) == 6, "a whole window again")


def test_a_bad_link_condemns_nobody(device: Device) -> None:
    """Each connection breaks at the first batch, thirty times in a row."""
    device.predict(3)
    device.path.drain("digits")
    device.predict(3)
    device.path.drain("digits")
    broken = threading.Semaphore(30)
    device.registry.refused = lambda _batch: broken.acquire(blocking=False)
    device.path.on_connected()

    eventually(device.settled, "all stored", timeout_s=30.0)
    assert device.registry.items == device.expected
    assert device.path.stats().drops == {}


def test_silence_of_the_registry_is_noticed_and_ends(device: Device) -> None:
    device.registry.acknowledging = False
    assert device.path.stalled_since() is None
    device.path.on_connected()
    assert device.path.stalled_since() is None
    device.predict(1)

    eventually(lambda: device.path.stalled_since() is not None, "silence")
    device.path.on_disconnected()
    eventually(lambda: device.path.stalled_since() is None, "no link, no silence")
    device.registry.acknowledging = True
    device.path.on_connected()
    eventually(device.settled, "acknowledged")
    eventually(lambda: device.path.stalled_since() is None, "nothing waits")


def test_an_idle_path_neither_wakes_up_nor_writes(device: Device) -> None:
    device.path.on_connected()
    device.predict(5)
    eventually(device.settled, "all stored")
    asleep = [device.path._taking._wake, device.path._sending._wake]
    eventually(lambda: all(wake._waiters for wake in asleep), "both threads sleep")  # type: ignore[attr-defined]
    before = {path: path.stat() for path in device.outbox_path.parent.parent.rglob("*")}
    waits: list[float | None] = []

    def wait_again(timeout: float | None = None) -> bool:
        waits.append(timeout)
        return True

    with pytest.MonkeyPatch.context() as patch:
        for wake in asleep:
            patch.setattr(wake, "wait", wait_again)
        threading.Event().wait(0.5)

    assert waits == []
    assert {path: path.stat() for path in device.outbox_path.parent.parent.rglob("*")} == before


@pytest.mark.parametrize("steps", range(8))
def test_a_kill_anywhere_on_the_way_to_the_outbox_loses_and_doubles_nothing(
    tmp_path: Path, steps: int
) -> None:
    for part in range(3):
        writer = SpoolWriter(tmp_path / "spool" / "digits", segment_bytes=300)
        for number in range(part * 10, part * 10 + 10):
            writer.append(frame(_record(number)))
        writer.close()
    for lives in (steps, None):
        outbox = Outbox(tmp_path / "outbox.db")
        intake = SpoolIntake(outbox, tmp_path / "spool", Batcher(records=7), lambda: NOW)
        with powercuts.after(lives):
            intake.move("digits", 0.0)
            intake.flush()
        outbox.close()

    outbox = Outbox(tmp_path / "outbox.db")
    bodies = [waiting.body for waiting in outbox.pending(100)]
    items = [record.item for body in bodies for record in batches.decode_records(body)]
    assert items == [str(number) for number in range(30)]
    assert outbox.positions("digits") == {SOURCE: "row 29"}
    assert list((tmp_path / "spool" / "digits").iterdir()) == []
    outbox.close()


def test_the_supervisor_carries_no_heavy_library_for_it() -> None:
    heavy = ("numpy", "onnxruntime", "cryptography", "asyncio", "pydantic")
    program = f"import sys, edge_agent.telemetry.path; print(set({heavy}) & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)

    assert done.stdout.strip() == b"set()"


def test_a_record_of_tomorrow_is_taken_by_the_device_of_today() -> None:
    plain = msgspec.msgpack.decode(frame(_record(1)))

    assert batches.read_record(msgspec.msgpack.encode(plain | {"colour": "red"})) == _record(1)
