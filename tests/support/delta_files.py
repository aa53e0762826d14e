"""Weights that were trained a little further, deltas of them, and deltas that no writer makes."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runtime import digests
from runtime.bundle.delta import apply, table, write
from runtime.bundle.delta.apply import Limits
from runtime.bundle.delta.format import Base, Header, encode_header, varint
from runtime.bundle.delta.plan import ElementType, Segment
from runtime.digests import Digest

FLOAT = npt.NDArray[np.float64]


def as_type(values: FLOAT, kind: ElementType) -> bytes:
    """Return these values as elements of a type: floats rounded, integers by a scale of 1/32."""
    if kind is ElementType.BF16:
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    if kind.value.startswith("fp"):
        return values.astype(f"<f{kind.width}").tobytes()
    return np.round(values * 32).astype(f"<i{kind.width}").tobytes()


def fine_tuned(kind: ElementType, count: int, *, seed: int = 0) -> tuple[bytes, bytes]:
    """Return weights, and the same weights moved by a thousandth of their deviation."""
    random = np.random.default_rng(seed)
    weights = random.normal(0, 0.5, count)
    return as_type(weights, kind), as_type(weights + random.normal(0, 5e-4, count), kind)


@dataclass(frozen=True)
class Files:
    """A directory with an old file, a new file, and the delta between them."""

    place: Path

    @property
    def old(self) -> Path:
        return self.place / "old"

    @property
    def new(self) -> Path:
        return self.place / "new"

    @property
    def delta(self) -> Path:
        return self.place / "delta"

    @property
    def made(self) -> Path:
        return self.place / "made"

    def write(
        self, old: bytes | None, new: bytes, plan: Sequence[Segment], *, encoding: str
    ) -> Header:
        """Write the files and the delta."""
        self.new.write_bytes(new)
        if old is not None:
            self.old.write_bytes(old)
        base = self.old if old is not None else None
        return write.write(plan, self.new, self.delta, encoding=encoding, old=base)

    def applied(self) -> bytes:
        """Return what the delta makes of the old file."""
        base = self.old if self.old.exists() else None
        apply.apply_file(base, self.delta, self.made)
        return self.made.read_bytes()


def decoded(delta: bytes, old: Path | None = None, limits: Limits = apply.DEFAULT) -> bytes:
    """Return what a delta says the new file is, right or not."""
    with apply.Decoder(io.BytesIO(delta), old, limits) as decoder:
        return decoder.read()


@dataclass
class Forgery:
    """A delta put together by hand."""

    size: int
    segments: Sequence[Segment]
    blocks: Sequence[tuple[int, bytes]] = ()
    """Elements, and mode with body."""
    base: Base | None = None
    memory_bytes: int = 48 << 20
    sha256: Digest = field(default=digests.of_bytes(b""))

    def bytes(self) -> bytes:
        """Return the file."""
        header = Header("tensor-delta", self.base, self.size, self.sha256, self.memory_bytes)
        columns = table.encode(self.segments, 0)
        made = encode_header(header)
        made += varint(len(self.segments)) + varint(len(columns)) + columns
        for count, body in self.blocks:
            made += varint(len(body)) + varint(count) + body
        return made
