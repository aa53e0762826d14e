"""Anything goes in and comes out; nothing else comes out, whatever goes in."""

import contextlib
import random

import msgspec
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime import batches
from runtime.batches import Record
from runtime.errors import InvalidError
from tests.support.records import digits, records

BODY = batches.encode_records([digits(number, random.Random(1)) for number in range(20)])
PLAIN = zstandard.ZstdDecompressor().decompress(BODY)


def _bits(record: Record) -> bytes:
    """Return what tells 1 from 1.0 and 0.0 from -0.0."""
    return msgspec.msgpack.encode(msgspec.structs.astuple(record))


@settings(max_examples=100)
@given(st.lists(records, min_size=1, max_size=8))
def test_records_come_back_exactly(sent: list[Record]) -> None:
    back = batches.decode_records(batches.encode_records(sent))

    assert list(map(_bits, back)) == list(map(_bits, sent))


@settings(max_examples=300)
@given(st.binary(max_size=200))
def test_random_bytes_are_a_batch_or_an_invalid_one(payload: bytes) -> None:
    with contextlib.suppress(InvalidError):
        batches.decode_batch(payload)
    with contextlib.suppress(InvalidError):
        batches.decode_records(zstandard.ZstdCompressor().compress(payload))


@settings(max_examples=400)
@given(
    st.lists(
        st.tuples(st.integers(0, len(PLAIN) - 1), st.binary(max_size=3)), min_size=1, max_size=4
    ),
    st.sampled_from((BODY, PLAIN)),
)
def test_a_mutated_batch_is_a_batch_or_an_invalid_one(
    changes: list[tuple[int, bytes]], original: bytes
) -> None:
    """Bits flip in what travels, or a hostile device packs what it likes."""
    data = bytearray(original)
    for place, replacement in changes:
        at = place % len(data)
        data[at : at + len(replacement)] = replacement
    body = bytes(data) if original is BODY else zstandard.ZstdCompressor().compress(bytes(data))
    with contextlib.suppress(InvalidError):
        batches.decode_records(body)
