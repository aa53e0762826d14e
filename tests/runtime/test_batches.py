import json
import math
import random
import struct
from pathlib import Path

import msgspec
import pytest
import zstandard

from runtime import batches, topics
from runtime.batches import Record
from runtime.errors import InvalidError
from tests.support.records import digits, frame

DEVICE = topics.device_id("dev-1")


def _record(**fields: object) -> Record:
    plain = {"module": "m", "bundle": "b", "model": "n", "version": 1, "latency_ms": 0.5, "at": 1.0}
    return msgspec.convert(plain | fields, Record)


def _round_trip(*records: Record) -> tuple[Record, ...]:
    return batches.decode_records(batches.encode_records(records))


def _batch(records: list[Record]) -> bytes:
    return batches.encode_batch(
        device=DEVICE, epoch="e1", sequence=7, sent_at=1.8e9, records=records
    )


def _packed(plain: object) -> bytes:
    return zstandard.ZstdCompressor().compress(msgspec.msgpack.encode(plain))


def test_a_batch_comes_back_as_it_was_sent() -> None:
    rng = random.Random(1)
    records = [digits(number, rng) for number in range(500)]

    batch = batches.decode_batch(_batch(records))

    assert batch == batches.Batch(DEVICE, "e1", 7, 1.8e9, tuple(records))


def test_five_hundred_records_cost_a_tenth_of_their_json() -> None:
    rng = random.Random(2)
    records = [digits(number, rng) for number in range(500)]

    assert len(_batch(records)) <= 0.1 * sum(len(msgspec.json.encode(one)) for one in records)


def test_float_bits_survive() -> None:
    """-0.0, NaN, infinities, the largest float64 and a float32 all keep their bits."""
    row = [0.0, -0.0, math.nan, math.inf, -math.inf, 1e308, 0.1, 0.5, 5e-324]

    (back,) = _round_trip(_record(outputs={"y": row}))

    assert back.outputs is not None
    assert struct.pack("<9d", *back.outputs["y"]) == struct.pack("<9d", *row)


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"y": 3},
        {"y": []},
        {"y": [[], []]},
        {"y": [[1, 2], [3]]},
        {"y": [1, True, 1.0, None, "1", b"1"]},
        {"y": [-(1 << 63), (1 << 64) - 1]},
        {"y": [[[True], [False]]], "z": {"a": [1.5]}},
    ],
)
def test_irregular_outputs_keep_values_and_types(outputs: dict[str, object]) -> None:
    records = (_record(outputs=outputs), _record(), _record(outputs={"y": [[0.25]]}))

    back = _round_trip(*records)

    assert msgspec.msgpack.encode(back) == msgspec.msgpack.encode(records)


def test_detections_of_different_length_stay_in_columns() -> None:
    """Twenty boxes here, one there: still four bytes for each number."""
    rng = random.Random(3)
    shapes = [rng.randrange(30) for _ in range(100)]
    boxes = [[[rng.randrange(1 << 20) / 4 for _ in range(4)] for _ in range(n)] for n in shapes]
    records = [_record(outputs={"boxes": rows}) for rows in boxes]

    body = batches.encode_records(records)

    assert batches.decode_records(body) == tuple(records)
    assert len(body) < 4 * 4 * sum(shapes) + 500


def test_times_and_numbered_texts_cost_next_to_nothing() -> None:
    records = [_record(at=1.8e9 + n / 8, request=f"r-{n}", item=f"f.csv#{n}") for n in range(1000)]

    assert len(batches.encode_records(records)) < 300
    assert _round_trip(*records) == tuple(records)


@pytest.mark.parametrize("text", ["r-01", "r-", "r-\u0661", "r-1x", "r-1234567890123456789012"])
def test_texts_that_only_look_numbered_stay_what_they_are(text: str) -> None:
    records = (_record(request="r-1"), _record(request=text), _record(request="r-2"))

    assert _round_trip(*records) == records


def test_a_batch_of_no_records_or_too_many_is_refused() -> None:
    for count in (0, batches.MAX_BATCH_RECORDS + 1):
        with pytest.raises(InvalidError):
            batches.encode_records([_record()] * count)


def test_records_that_weigh_too_much_are_refused_but_half_of_them_may_do() -> None:
    rng = random.Random(4)
    records = [_record(error=rng.randbytes(100_000).hex()) for _ in range(8)]

    with pytest.raises(InvalidError, match="give fewer"):
        batches.encode_records(records)

    assert _round_trip(*records[:4]) == tuple(records[:4])


def test_what_the_registry_would_refuse_does_not_leave_the_device() -> None:
    """One long text a thousand times packs well, and unfolds to more than a batch may hold."""
    with pytest.raises(InvalidError, match="too much text"):
        batches.encode_records([_record(error="x" * 100_000)] * 1000)


def test_the_largest_single_record_fits() -> None:
    noise = random.Random(5).randbytes(120_000).hex()

    assert _round_trip(_record(error=noise)) == (_record(error=noise),)


def test_a_batch_that_unfolds_to_too_much_is_refused_before_it_does() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(batches.MAX_BATCH_PLAIN_BYTES + 1))

    with pytest.raises(InvalidError, match="pack 1 to"):
        batches.decode_records(bomb)


def test_a_batch_that_hides_its_size_is_refused() -> None:
    hidden = zstandard.ZstdCompressor(write_content_size=False).compress(b"\x90")

    with pytest.raises(InvalidError):
        batches.decode_records(hidden)


@pytest.mark.parametrize(
    "column",
    [
        ["c", {"a": 1}],
        ["a"],
        [],
        7,
        ["i", 0, 3, b"xxx"],
        ["i", 0, 1, b"xxx"],
        ["j", 1 << 63, 1 << 63, 0, b""],
        ["m", [1]],
        ["m", [{1: 2}, 1]],
        ["d", ["a"], ["i", 0, 1, b"\0\1"]],
        ["d", [b"a"], ["c", 0]],
        ["f", 2, b"xxxx"],
        ["s", 7, ["c", 1]],
        ["x", ["c", -1]],
        ["x", ["j", 0, 1]],
        ["n", 5, ["c", 1]],
        ["b", b"\2\1"],
        ["t", [["y"]], ["c", 0], [[["a", [[1 << 40, 0]], ["c", 0], ["m", []]]]]],
        ["t", [["y"]], ["c", 0], [[["a", [[1 << 30]], ["c", 0], ["c", 1]]]]],
        ["t", [["y"]], ["c", 0], [[["a", [[-1]], ["c", 0], ["c", 1]]]]],
        ["t", [["y", "y"]], ["c", 0], [[["m", [1, 1]], ["m", [1, 1]]]]],
        ["t", [["y"]], ["c", 1], [[["m", [1, 1]]]]],
        ["t", [["y"]], ["c", 0], [[]]],
        ["t", [["y"]], ["c", 0], [7]],
    ],
)
def test_a_wrong_column_is_refused_wherever_it_stands(column: object) -> None:
    good = {
        "at": ["c", 1.0],
        "module": ["c", "m"],
        "bundle": ["c", "b"],
        "model": ["c", "n"],
        "version": ["c", 1],
        "latency_ms": ["c", 1.0],
    }
    assert len(batches.decode_records(_packed([2, good]))) == 2

    for name in Record.__struct_fields__:
        with pytest.raises(InvalidError):
            batches.decode_records(_packed([2, good | {name: column}]))


def test_a_field_from_the_future_is_skipped_and_a_missing_one_is_named() -> None:
    fields = {
        "at": ["c", 1.0],
        "module": ["c", "m"],
        "bundle": ["c", "b"],
        "model": ["c", "n"],
        "version": ["c", 1],
        "latency_ms": ["c", 0.5],
        "colour": ["q", "unheard of"],
    }

    assert batches.decode_records(_packed([1, fields, "more"])) == (_record(),)
    del fields["model"]
    with pytest.raises(InvalidError, match=r"batch\.model"):
        batches.decode_records(_packed([1, fields]))


def test_a_batch_with_a_broken_body_is_still_known_by_its_number() -> None:
    header = batches.Header(DEVICE, "e1", 3, 1.0)

    assert batches.unwrap(batches.wrap(header, b"broken")) == (header, b"broken")


@pytest.mark.parametrize(
    "envelope",
    [
        [2, "dev-1", "e", 1, 1.0, b""],
        [1, "Dev_1", "e", 1, 1.0, b""],
        [1, "dev-1", "", 1, 1.0, b""],
        [1, "dev-1", "e", 0, 1.0, b""],
        [1, "dev-1", "e", 1 << 53, 1.0, b""],
        [1, "dev-1", "e", 1, math.inf, b""],
        [1, "dev-1", "e", 1, 1.0],
        {"format": 1},
    ],
)
def test_a_wrong_envelope_is_refused(envelope: object) -> None:
    with pytest.raises(InvalidError):
        batches.unwrap(msgspec.msgpack.encode(envelope))


def test_a_payload_too_long_is_refused_unread() -> None:
    with pytest.raises(InvalidError, match="send at most"):
        batches.unwrap(bytes(batches.MAX_BATCH_BYTES + 1))


def test_a_frame_is_read_as_the_record_that_was_written() -> None:
    record = digits(1, random.Random(6))

    assert batches.read_record(frame(record)) == record


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        frame(_record())[:-1],
        b"\x91" * 100_000,
        msgspec.msgpack.encode({"at": math.inf} | {"x": 1}),
        frame(msgspec.structs.replace(_record(), at=math.nan)),
        frame(msgspec.structs.replace(_record(), latency_ms=math.inf)),
        frame(_record(outputs={"y": {1: 2}})),
        frame(_record(outputs={"y": msgspec.msgpack.Ext(1, b"")})),
    ],
)
def test_a_frame_that_no_batch_could_carry_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidError):
        batches.read_record(payload)


@pytest.mark.parametrize("name", ["batch_v1_mixed", "batch_v1_alike"])
def test_a_batch_of_format_1_is_read_for_ever(name: str) -> None:
    """Devices in the field send these bytes; between them, the two hold every kind of column."""
    golden = Path(__file__).parents[1] / "golden"
    told = json.loads((golden / f"{name}.json").read_bytes())

    batch = batches.decode_batch((golden / f"{name}.bin").read_bytes())

    assert list(batch[:4]) == [told[key] for key in ("device", "epoch", "sequence", "sent_at")]
    assert [msgspec.structs.asdict(record) for record in batch.records] == told["records"]
