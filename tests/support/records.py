"""Records as a device makes them, and any other that a batch must carry."""

import math
import random
import struct

import msgspec
from hypothesis import strategies as st

from runtime.batches import Record

numbers = st.floats(allow_nan=False) | st.floats(width=32, allow_nan=False)
integers = st.integers(-(1 << 63), (1 << 64) - 1)
scalars = st.none() | st.booleans() | integers | numbers | st.text(max_size=8)
values = st.recursive(
    scalars | st.lists(numbers, max_size=6) | st.lists(st.integers(0, 9), max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)
mappings = st.none() | st.dictionaries(st.text(max_size=3), values, max_size=3)
texts = st.none() | st.text(max_size=12)
seconds = st.floats(0, 4e9) | st.integers(0, 4_000_000_000_000).map(lambda ms: ms / 1000)
records = st.builds(
    Record,
    at=seconds,
    module=st.sampled_from(("digits", "vibration")),
    bundle=st.sampled_from(("ab" * 32, "cd" * 32)),
    model=st.text(max_size=8),
    version=st.integers(0, 1 << 40),
    latency_ms=st.floats(0, 1e6),
    outputs=mappings,
    inputs=mappings,
    request=texts | st.integers(0, 100).map(lambda number: f"req-{number}"),
    source=texts,
    item=texts,
    position=texts,
    error=texts,
    kind=st.sampled_from(("alarm", "result", "sample", "debug")),
)


def digits(number: int, rng: random.Random) -> Record:
    """Return what a classifier of ten digits records of its `number`-th prediction."""
    logits = [rng.gauss(0, 3) for _ in range(10)]
    total = sum(map(math.exp, logits))
    probabilities = [single(math.exp(logit) / total) for logit in logits]
    return Record(
        at=1_800_000_000.0 + number * 0.01 + rng.random() * 0.002,
        module="digits",
        bundle="ab" * 32,
        model="digits",
        version=2,
        latency_ms=round(0.3 + rng.random(), 3),
        outputs={"probabilities": [probabilities], "label": [logits.index(max(logits))]},
        request=f"req-{number}",
        source="directory:/var/lib/packhorse/inbox",
        item=f"digits.csv#{number}",
        position=f"digits.csv:{number}",
    )


def single(value: float) -> float:
    """Return the float32 nearest to a float."""
    nearest: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return nearest


def frame(record: Record) -> bytes:
    """Return a record as a worker writes it into the spool."""
    return msgspec.msgpack.encode(record)
