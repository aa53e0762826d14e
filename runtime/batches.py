"""Telemetry: a record is one prediction, a batch is what travels.

A batch is msgpack of columns, compressed by zstd: values of one kind lie side by side, so a
record costs a fraction of a JSON message. It is numbered (device, epoch, sequence); the registry
keeps each number once. Specified in docs/specs/telemetry.md.

    [format, device, epoch, sequence, sent_at, body]        the envelope, msgpack
    body = zstd(msgpack([count, {field of Record: column}]))   see runtime.columns, runtime.nested

The envelope is outside, so that a batch can be numbered after its body was made, and recognised
(or refused by its number) without unpacking. A field whose values are all the default is left out;
fields that a reader does not know are skipped.
"""

import itertools
import math
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import zstandard

from runtime import columns, nested, topics
from runtime.errors import InvalidError
from runtime.topics import DeviceId

MAX_BATCH_BYTES = 512 * 1024
"""Compressed, on the wire; below every broker's default limit."""
MAX_BATCH_PLAIN_BYTES = 4 * 1024 * 1024
"""Decompressed; a batch that unfolds to more is hostile."""
MAX_BATCH_RECORDS = 1000
MAX_BATCH_CELLS = 1 << 20
"""Values in all columns of a batch."""
MAX_ENVELOPE_BYTES = 512
"""What a batch is at most larger than its body."""
MAX_SEQUENCE = (1 << 53) - 1

FORMAT = 1
LEVEL = 9
"""Of zstd: a batch of 500 records takes a few milliseconds."""

_BLOCK_BYTES = 4096
"""Each block gets entropy tables of its own: noise in one column costs the next one nothing."""
_EPOCH = re.compile(r"[a-z0-9-]{1,63}")


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


class Header(NamedTuple):
    """What a batch is known by."""

    device: DeviceId
    epoch: str
    """The outbox that numbered it: random, and new whenever numbering begins anew."""
    sequence: int
    """From 1; unique within the epoch."""
    sent_at: float
    """When it was sent (this time), device clock, seconds since 1970."""


class Batch(NamedTuple):
    """Records that travelled together."""

    device: DeviceId
    epoch: str
    sequence: int
    sent_at: float
    records: tuple[Record, ...]


class _Envelope(msgspec.Struct, frozen=True, array_like=True):
    format: int
    device: str
    epoch: str
    sequence: int
    sent_at: float
    body: bytes


_MAPPINGS = ("outputs", "inputs")
_TYPES: dict[str, set[type]] = {
    "at": {float},
    "module": {str},
    "bundle": {str},
    "model": {str},
    "version": {int},
    "latency_ms": {float},
    "request": {str, type(None)},
    "source": {str, type(None)},
    "item": {str, type(None)},
    "position": {str, type(None)},
    "error": {str, type(None)},
    "kind": {str},
}
_DEFAULTS = {
    field.encode_name: field.default
    for field in msgspec.structs.fields(Record)
    if field.default is not msgspec.NODEFAULT
}


def read_record(payload: bytes) -> Record:
    """Return the record in a spool's frame; raise InvalidError if no batch could carry it."""
    try:
        record = msgspec.msgpack.decode(payload, type=Record)
        columns.require_plain(record.outputs)
        columns.require_plain(record.inputs)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError("record", f"{len(payload)} bytes", str(error)) from error
    _require_finite("at", record.at)
    _require_finite("latency_ms", record.latency_ms)
    return record


def encode_records(records: Sequence[Record]) -> bytes:
    """Return the body of a batch.

    Raises InvalidError if the records are none or too many, or hold or weigh more than a batch may:
    two halves may do then. A single record from `read_record`, of at most 256 KiB, always does.
    """
    if not 0 < len(records) <= MAX_BATCH_RECORDS:
        raise InvalidError("records", len(records), f"give 1 to {MAX_BATCH_RECORDS}")
    fields: dict[str, columns.Column] = {}
    for name in Record.__struct_fields__:
        values = [getattr(record, name) for record in records]
        if name in _MAPPINGS:
            column = nested.encode(values)
        else:
            column = columns.encode(list(map(float, values)) if _TYPES[name] == {float} else values)
        if name not in _DEFAULTS or column != ["c", _DEFAULTS[name]]:
            fields[name] = column
    try:
        plain = msgspec.msgpack.encode([len(records), fields])
    except (OverflowError, TypeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidError("records", f"{len(records)} records", str(error)) from error
    body = _pack(plain)
    if len(plain) > MAX_BATCH_PLAIN_BYTES or len(body) > MAX_BATCH_BYTES - MAX_ENVELOPE_BYTES:
        raise InvalidError("records", f"{len(plain)} bytes, packed {len(body)}", "give fewer")
    decode_records(body)  # what the registry would refuse must not leave the device
    return body


def decode_records(body: bytes) -> tuple[Record, ...]:
    """Return the records in a batch's body; raise InvalidError on anything else."""
    return tuple(itertools.starmap(Record, zip(*decode_columns(body).values(), strict=True)))


def decode_columns(body: bytes) -> dict[str, list[Any]]:
    """Return the same as one list per field, in the order of Record's; all are of one length."""
    try:
        match msgspec.msgpack.decode(_unpack(body)):
            case [int(count), dict(fields), *_] if 0 < count <= MAX_BATCH_RECORDS:
                return _columns(count, fields)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError("batch", f"{len(body)} bytes", str(error)) from error
    raise InvalidError("batch", f"{len(body)} bytes", f"send 1 to {MAX_BATCH_RECORDS} records")


def wrap(header: Header, body: bytes) -> bytes:
    """Return a batch as it travels."""
    device, epoch, sequence, sent_at = header
    return msgspec.msgpack.encode(_Envelope(FORMAT, device, epoch, sequence, sent_at, body))


def unwrap(payload: bytes) -> tuple[Header, bytes]:
    """Return what a batch is known by, and its body, not yet looked at.

    Raises InvalidError if even that cannot be read.
    """
    if len(payload) > MAX_BATCH_BYTES:
        raise InvalidError("batch", f"{len(payload)} bytes", f"send at most {MAX_BATCH_BYTES}")
    try:
        seen = msgspec.msgpack.decode(payload, type=_Envelope)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError("batch", f"{len(payload)} bytes", str(error)) from error
    if seen.format != FORMAT:
        raise InvalidError("batch.format", seen.format, f"this registry reads format {FORMAT}")
    if not _EPOCH.fullmatch(seen.epoch):
        raise InvalidError("batch.epoch", seen.epoch, "use 1 to 63 of a-z, 0-9 and '-'")
    if not 0 < seen.sequence <= MAX_SEQUENCE:
        raise InvalidError("batch.sequence", seen.sequence, f"use 1 to {MAX_SEQUENCE}")
    _require_finite("batch.sent_at", seen.sent_at)
    device = topics.device_id(seen.device, "batch.device")
    return Header(device, seen.epoch, seen.sequence, seen.sent_at), seen.body


def encode_batch(
    *, device: DeviceId, epoch: str, sequence: int, sent_at: float, records: Sequence[Record]
) -> bytes:
    """Return records as they travel, in at most MAX_BATCH_BYTES; see `encode_records`."""
    return wrap(Header(device, epoch, sequence, sent_at), encode_records(records))


def decode_batch(payload: bytes) -> Batch:
    """Return the batch in a payload; raise InvalidError, and nothing else, if it is none."""
    header, body = unwrap(payload)
    return Batch(*header, decode_records(body))


def _pack(plain: bytes) -> bytes:
    packer = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True).compressobj(size=len(plain))
    blocks = []
    for start in range(0, len(plain), _BLOCK_BYTES):
        blocks.append(packer.compress(plain[start : start + _BLOCK_BYTES]))
        blocks.append(packer.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK))
    return b"".join((*blocks, packer.flush()))


def _unpack(body: bytes) -> bytes:
    try:
        size = zstandard.frame_content_size(body)
        if not 0 < size <= MAX_BATCH_PLAIN_BYTES:
            raise InvalidError("batch", f"{size} bytes", f"pack 1 to {MAX_BATCH_PLAIN_BYTES}")
        return zstandard.ZstdDecompressor().decompress(
            body, max_output_size=MAX_BATCH_PLAIN_BYTES, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise InvalidError("batch", f"{len(body)} bytes", f"pack it with zstd: {error}") from error


def _columns(count: int, fields: dict[object, object]) -> dict[str, list[Any]]:
    budget = columns.Budget(cells=MAX_BATCH_CELLS, text=MAX_BATCH_PLAIN_BYTES)
    found: dict[str, list[Any]] = {}
    for name in Record.__struct_fields__:
        if name not in fields:
            if name not in _DEFAULTS:
                raise InvalidError(f"batch.{name}", None, "every record has one")
            found[name] = [_DEFAULTS[name]] * count
        elif name in _MAPPINGS:
            found[name] = list(nested.decode(fields[name], count, budget))
        else:
            found[name] = columns.decode(fields[name], count, budget)
            _require_column(name, found[name])
    return found


def _require_column(name: str, values: list[Any]) -> None:
    if not set(map(type, values)) <= _TYPES[name]:
        raise InvalidError(f"batch.{name}", "values", "see Record for their types")
    if _TYPES[name] == {float} and not all(map(math.isfinite, values)):
        raise InvalidError(f"batch.{name}", "values", "give finite numbers")


def _require_finite(field: str, value: float) -> None:
    if not math.isfinite(value):
        raise InvalidError(field, value, "give a finite number")
