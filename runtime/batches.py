"""Telemetry: a record is one prediction, a batch is what travels.

A batch is msgpack of columns, compressed by zstd: values of one kind lie side by side, so a
record costs a fraction of a JSON message. It is numbered (device, epoch, sequence); the registry
keeps each number once. Specified in docs/specs/telemetry.md.
"""

from typing import Any

import msgspec

MAX_BATCH_BYTES = 512 * 1024
"""Compressed, on the wire; below every broker's default limit."""
MAX_BATCH_PLAIN_BYTES = 16 * 1024 * 1024
"""Decompressed; a batch that unfolds to more is hostile."""
MAX_BATCH_RECORDS = 1000


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One prediction, as the worker that made it wrote it down."""

    at: float
    """When, device clock, seconds since 1970."""
    module: str
    bundle: str
    model: str
    version: int
    latency_ms: float
    outputs: dict[str, Any] | None = None
    """Tensor name to (nested) values, cut to 64 values each; None: not captured or failed."""
    inputs: dict[str, Any] | None = None
    request: str | None = None
    """The `id` of the inference request, where a client gave one."""
    source: str | None = None
    """The source URI that the input came from; None: a request."""
    item: str | None = None
    """Which input of that source: a file name and row, a topic, a count."""
    position: str | None = None
    """Where the source goes on after this item; opaque to all but the source."""
    error: str | None = None
    """Why there are no outputs."""
    kind: str = "result"
    """Class in the outbox: alarm, result, sample or debug; the last is dropped first."""
