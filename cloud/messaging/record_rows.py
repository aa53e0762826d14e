"""Batches as rows of the database; pure."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from runtime import clock
from runtime.batches import Header

DAY_S = 86_400.0
LONGEST_WAIT_S = 400 * DAY_S
"""How long a record may have waited on a device whose clock is wrong."""

COLUMNS = (
    "batch_id", "place", "device", "at", "time_estimated", "module", "bundle", "model", "version",
    "latency_ms", "outputs", "inputs", "request", "source", "item", "error", "kind",
)  # fmt: skip
"""Of the table `record`, in the order of `record_rows`; its id is the database's to give."""

_OWN = 5
"""The first columns, which are not fields of a record as it travels."""

_json = msgspec.json.Encoder().encode


def batch_row(
    header: Header, *, records: int, received_at: float, size_bytes: int
) -> dict[str, Any]:
    """Return the columns of one batch."""
    return {
        "device": header.device,
        "epoch": header.epoch,
        "sequence": header.sequence,
        "sent_at": header.sent_at,
        "received_at": received_at,
        "records": records,
        "size_bytes": size_bytes,
    }


def readied(fields: dict[str, list[Any]]) -> dict[str, list[Any]]:
    """Return `runtime.batches.decode_columns` with tensors as JSON text.

    NaN and the infinities, which JSON has not, become null. What is left holds no containers, so
    that many batches at once do not keep the garbage collector busy.
    """
    return {**fields, "outputs": _texts(fields["outputs"]), "inputs": _texts(fields["inputs"])}


def record_rows(
    header: Header, fields: Mapping[str, list[Any]], *, batch_id: int, received_at: float
) -> list[tuple[Any, ...]]:
    """Return a row of COLUMNS for each record, from `readied` fields."""
    moments, estimated = _moments(fields["at"], sent_at=header.sent_at, received_at=received_at)
    return list(
        zip(
            itertools.repeat(batch_id),
            itertools.count(),
            itertools.repeat(header.device),
            moments,
            estimated,
            *(fields[name] for name in COLUMNS[_OWN:]),
            strict=False,
        )
    )


def _texts(values: Iterable[Any]) -> list[str | None]:
    return [None if value is None else _json(value).decode() for value in values]


def _moments(
    moments: list[float], *, sent_at: float, received_at: float
) -> tuple[Iterable[float], Iterable[bool]]:
    if clock.plausible(min(moments)) and max(moments) <= received_at + DAY_S:
        return moments, itertools.repeat(False)
    found = [made_at(at, sent_at=sent_at, received_at=received_at) for at in moments]
    return [at for at, _ in found], [estimated for _, estimated in found]


def made_at(at: float, *, sent_at: float, received_at: float) -> tuple[float, bool]:
    """Return when a record was made, and whether that is an estimate.

    A device without a valid clock still knows how long ago it was: `sent_at - at` on its own clock,
    if that was not set in between. What cannot be either becomes the time of arrival.
    """
    if clock.plausible(at) and at <= received_at + DAY_S:
        return at, False
    waited_s = sent_at - at
    if 0 <= waited_s <= LONGEST_WAIT_S:
        return received_at - waited_s, True
    return received_at, True
