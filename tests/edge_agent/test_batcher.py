import random

import msgspec

from edge_agent.telemetry import batcher
from edge_agent.telemetry.batcher import Batcher, Sized
from runtime import batches
from runtime.batches import Record
from tests.support.records import digits


def _record(kind: str = "result", **fields: object) -> Record:
    plain = {"module": "m", "bundle": "b", "model": "n", "version": 1, "latency_ms": 0.5, "at": 1.0}
    return msgspec.convert({**plain, "kind": kind, **fields}, Record)


def _filled(waiting: Batcher, *kinds: str, size_bytes: int = 100, now: float = 0.0) -> Batcher:
    for item, kind in enumerate(kinds):
        waiting.add(Sized(_record(kind, item=str(item)), size_bytes), now)
    return waiting


def test_nothing_waiting_is_never_due() -> None:
    waiting = Batcher()

    assert waiting.due_at is None
    assert not waiting.full
    assert waiting.peek() == []


def test_the_oldest_record_says_when() -> None:
    waiting = Batcher(flush_s=2.0)
    _filled(waiting, "result", now=10.0)
    _filled(waiting, "result", now=11.0)

    assert waiting.due_at == 12.0
    waiting.clear()
    assert waiting.due_at is None


def test_an_alarm_waits_for_none() -> None:
    assert _filled(Batcher(), "result", "alarm", now=10.0).due_at == 10.0


def test_enough_records_or_bytes_make_it_full() -> None:
    assert _filled(Batcher(records=2), "result", "result").full
    assert not _filled(Batcher(records=3), "result", "result").full
    assert _filled(Batcher(size_bytes=150), "result", "result").full


def test_classes_are_apart_and_each_keeps_its_order() -> None:
    groups = _filled(Batcher(), "debug", "result", "alarm", "result", "made up").peek()

    assert [[record.item for record in group] for group in groups] == [
        ["2"],
        ["1", "3"],
        ["0", "4"],
    ]


def test_groups_hold_no_more_than_a_batch_may() -> None:
    waiting = _filled(Batcher(records=3, size_bytes=250), *["result"] * 7)
    _filled(waiting, "result", size_bytes=1000)

    assert [len(group) for group in waiting.peek()] == [2, 2, 2, 1, 1]


def test_looking_takes_nothing_away() -> None:
    waiting = _filled(Batcher(), "result")

    assert waiting.peek() == waiting.peek() != []


def test_packed_records_come_back() -> None:
    records = [digits(number, random.Random(1)) for number in range(20)]

    (packed,), lost = batcher.pack(records)

    assert (packed.kind, packed.records, lost) == ("result", 20, 0)
    assert batches.decode_records(packed.body) == tuple(records)


def test_what_is_too_much_for_one_batch_becomes_several() -> None:
    rng = random.Random(2)
    records = [_record(error=rng.randbytes(100_000).hex()) for _ in range(8)]

    packed, lost = batcher.pack(records)

    assert lost == 0
    assert len(packed) > 1
    unpacked = [record for one in packed for record in batches.decode_records(one.body)]
    assert unpacked == records


def test_a_record_that_no_batch_can_carry_costs_only_itself() -> None:
    records = [_record(item="1"), _record(error="x" * batches.MAX_BATCH_PLAIN_BYTES), _record()]

    packed, lost = batcher.pack(records)

    assert lost == 1
    assert sum(one.records for one in packed) == 2


def test_a_kind_that_nobody_knows_matters_least() -> None:
    assert batcher.rank_of("made up") == batcher.rank_of("debug")
