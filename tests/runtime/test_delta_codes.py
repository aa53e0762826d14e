"""The steps of coding, each on its own: streams, symbols, planes, residuals, tables."""

import bz2
import itertools
import random

import numpy as np
import pytest

from runtime.bundle.delta import planes, residual, streams, symbols, table
from runtime.bundle.delta.format import Cursor, unzigzag, varint, zigzag
from runtime.bundle.delta.plan import Change, Copy, ElementType, Fresh, Segment
from runtime.bundle.delta.streams import Array, Effort
from runtime.errors import IntegrityError
from tests.support import delta_files

RANDOM = np.random.default_rng(7)
NOISE = RANDOM.bytes(5000)
COUNT = 40_000


def entropy_bytes(values: Array) -> float:
    """What an ideal coder of independent symbols needs."""
    counts = np.unique(values, return_counts=True)[1]
    return planes.entropy(counts) * len(values) / 8


@pytest.mark.parametrize("effort", Effort)
@pytest.mark.parametrize(
    "data", [b"", b"x", bytes(1000), NOISE[:100], b"hello world, " * 500, NOISE * 3]
)
def test_a_stream_unfolds_to_what_was_packed(data: bytes, effort: Effort) -> None:
    packed = streams.pack(data, effort)
    cursor = Cursor(packed)

    assert streams.unpack(cursor, len(data)) == data
    cursor.finish()
    assert len(packed) <= len(data) + 1


def test_text_is_packed_by_the_method_that_suits_it() -> None:
    words = "".join(random.Random(1).choices(["train ", "layer ", "weight\n", "x = ", "7"], k=9000))

    packed = streams.pack(words.encode(), Effort.HARD)

    assert len(packed) < len(streams.zstd_frame(words.encode(), level=19))
    assert streams.unpack(Cursor(packed), len(words)) == words.encode()


@pytest.mark.parametrize("method", range(5, 8))
def test_a_stream_of_no_known_method_is_refused(method: int) -> None:
    with pytest.raises(IntegrityError, match="known method"):
        streams.unpack(Cursor(varint(3 << 3 | method) + b"abc"), 10)


@pytest.mark.parametrize("method", [streams.ZSTD, streams.LZMA, streams.BZ2])
@pytest.mark.parametrize("wrong", [-1, 1, 1000])
def test_a_stream_of_another_length_is_refused(method: int, wrong: int) -> None:
    plain = b"weights " * 500
    frames = {
        streams.ZSTD: streams.zstd_frame(plain, level=3),
        streams.LZMA: streams._lzma(plain),
        streams.BZ2: bz2.compress(plain),
    }
    packed = varint(len(frames[method]) << 3 | method) + frames[method]
    assert streams.unpack(Cursor(packed), len(plain)) == plain

    with pytest.raises(IntegrityError):
        streams.unpack(Cursor(packed), len(plain) + wrong)


DISTRIBUTIONS = {
    "one value": np.zeros(COUNT),
    "hardly any": RANDOM.random(COUNT) < 0.001,
    "few": (RANDOM.random(COUNT) < 0.1) * RANDOM.integers(1, 4, COUNT),
    "three": RANDOM.choice(3, COUNT, p=[0.6, 0.2, 0.2]),
    "steep": RANDOM.geometric(0.6, COUNT) - 1,
    "less steep": RANDOM.geometric(0.3, COUNT) - 1,
    "flat": RANDOM.geometric(0.02, COUNT) - 1,
    "wide": np.abs(RANDOM.normal(0, 5000, COUNT)),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_symbols_cost_little_more_than_their_entropy(name: str) -> None:
    values = DISTRIBUTIONS[name].astype("<u4")

    coded = symbols.encode(values, Effort.QUICK)

    cursor = Cursor(coded)
    assert np.array_equal(symbols.decode(cursor, COUNT, values.dtype), values)
    cursor.finish()
    assert len(coded) <= entropy_bytes(values) * 1.04 + 200


@pytest.mark.parametrize("width", [1, 2, 4, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 23, 24, 25, 1000])
def test_symbols_of_any_width_and_number_come_back(width: int, count: int) -> None:
    for spread in (1, 3, 40, 8 * width):
        limit = 1 << min(spread, 8 * width - 1)
        values = RANDOM.integers(0, limit, count, dtype="u8").astype(f"<u{width}")
        values[::5] = 2 ** (8 * width) - 1

        coded = symbols.encode(values, Effort.SEARCH)

        cursor = Cursor(coded)
        assert np.array_equal(symbols.decode(cursor, count, values.dtype), values)
        cursor.finish()


@pytest.mark.parametrize("kind", ElementType)
@pytest.mark.parametrize("count", [1, 5, 3000])
def test_planes_come_back(kind: ElementType, count: int) -> None:
    for data in (RANDOM.bytes(count * kind.width), delta_files.fine_tuned(kind, count)[0]):
        values = planes.bits(np.frombuffer(data, np.uint8), kind)
        cursor = Cursor(planes.encode(values, kind))

        assert planes.decode(cursor, count, kind).tobytes() == data
        cursor.finish()


TYPED = [kind for kind in ElementType if kind is not ElementType.BYTES]


@pytest.mark.parametrize("kind", TYPED)
@pytest.mark.parametrize("count", [1, 5, 5000])
def test_residuals_come_back(kind: ElementType, count: int) -> None:
    for old, new in (
        delta_files.fine_tuned(kind, count),
        (RANDOM.bytes(count * kind.width), RANDOM.bytes(count * kind.width)),
        (bytes(count * kind.width), b"\xff" * count * kind.width),
    ):
        before, after = (planes.bits(np.frombuffer(data, np.uint8), kind) for data in (old, new))
        cursor = Cursor(residual.encode(after, before, kind))

        assert residual.decode(cursor, before, kind).tobytes() == new
        cursor.finish()


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        (ElementType.FP32, 0.53),
        (ElementType.FP16, 0.27),
        (ElementType.BF16, 0.12),
        (ElementType.FP64, 0.77),
    ],
)
def test_residuals_of_a_fine_tune_come_near_their_entropy(kind: ElementType, most: float) -> None:
    """The bounds are 2 % above the entropy of residuals, given the old exponents."""
    old, new = (np.frombuffer(data, np.uint8) for data in delta_files.fine_tuned(kind, 100_000))

    coded = residual.encode(planes.bits(new, kind), planes.bits(old, kind), kind)

    assert len(coded) <= most * len(new)


def test_int8_of_another_scale_cost_next_to_nothing() -> None:
    """Where an element moves follows from what it was."""
    weights = np.random.default_rng(5).normal(0, 30, 100_000)
    old = np.clip(np.round(weights), -127, 127).astype(np.int8).view(np.uint8)
    new = np.clip(np.round(old.view(np.int8) * 1.02), -127, 127).astype(np.int8).view(np.uint8)

    coded = residual.encode(new, old, ElementType.INT8)

    assert len(coded) <= 0.01 * len(new)


def test_a_few_changed_rows_stay_together() -> None:
    weights, _ = delta_files.fine_tuned(ElementType.FP32, 64 * 1024)
    old = planes.bits(np.frombuffer(weights, np.uint8), ElementType.FP32)
    new = old.copy()
    new[1024 * 20 : 1024 * 21] += 3

    assert len(residual.encode(new, old, ElementType.FP32)) <= 200


@pytest.mark.parametrize(
    "segments",
    [
        [Copy(0, 1)],
        [Fresh(7), Copy(3, 500), Change(503, 8, ElementType.FP64), Fresh(2, ElementType.BF16)],
        [Change(1000 - i, 4, ElementType.FP32) for i in range(900)],
    ],
)
def test_a_table_comes_back(segments: list[Segment]) -> None:
    size = sum(segment.length for segment in segments)

    found = table.decode(
        Cursor(table.encode(segments, 50)), len(segments), start=50, size=size + 50, old_size=2000
    )

    assert found.lengths.tolist() == [segment.length for segment in segments]
    assert found.olds.tolist() == [getattr(segment, "old_offset", 0) for segment in segments]
    assert found.starts[0] == 50


def test_a_table_of_a_hundred_thousand_segments_costs_a_few_bits_each() -> None:
    shuffled = random.Random(3)
    segments: list[Segment] = []
    place = 0
    while len(segments) < 65_536:
        copied, changed = shuffled.randrange(20, 60), shuffled.randrange(1, 8)
        segments += [Copy(place, copied), Change(place + copied, changed, ElementType.BYTES)]
        place += copied + changed

    assert len(table.encode(segments, 0)) * 8 <= 4.5 * len(segments)


@pytest.mark.parametrize("number", [0, 1, -1, 63, -64, 2**40, -(2**61)])
def test_zigzag_goes_back(number: int) -> None:
    assert unzigzag(zigzag(number)) == number


def test_numbers_of_any_size_are_read_back() -> None:
    numbers = [0, 1, 127, 128, 16_383, 16_384, 2**62, 2**63 - 1]
    cursor = Cursor(b"".join(map(varint, numbers)))

    assert [cursor.varint() for _ in numbers] == numbers
    cursor.finish()


@pytest.mark.parametrize("data", [b"", b"\x80", b"\xff" * 10])
def test_a_number_without_end_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        Cursor(data).varint()


def test_every_pair_of_special_floats_comes_back() -> None:
    """NaN payloads, infinities, denormals and both zeros, of every width."""
    for kind in planes.FLOATS:
        bits = kind.width * 8
        top = 1 << (bits - 1)
        special = [
            0,
            1,
            top,
            top + 1,
            top - 1,
            2 * top - 1,
            top >> 1,
            (top >> 1) + 1,
            3 * (top >> 1),
        ]
        pairs = np.array(list(itertools.product(special, special)), f"<u{kind.width}")
        old, new = pairs[:, 0].copy(), pairs[:, 1].copy()

        assert np.array_equal(
            residual.decode(Cursor(residual.encode(new, old, kind)), old, kind), new
        )
