"""What a deployment lets each device spend on its download, and when.

Kept as plain values beside the capture of the same row, under KEY; nothing there: no limits.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from runtime.errors import InvalidError
from runtime.messages import METERED_ALLOW

KEY = "download"


class Download(msgspec.Struct, frozen=True, omit_defaults=True):
    """The same as in `runtime.messages.ModuleSpec`."""

    budget_bytes: int | None = None
    metered: str = ""
    not_before: float | None = None
    not_after: float | None = None


def check(download: Download) -> None:
    """Raise InvalidError for limits that no download could keep."""
    budget, start, stop = download.budget_bytes, download.not_before, download.not_after
    if budget is not None and budget <= 0:
        raise InvalidError("download.budget_bytes", budget, "give bytes, above 0")
    if download.metered not in {"", METERED_ALLOW}:
        raise InvalidError("download.metered", download.metered, f"give {METERED_ALLOW} or nothing")
    if start is not None and stop is not None and stop <= start:
        raise InvalidError("download.not_after", stop, "give a moment after not_before")


def read(row: Mapping[str, Any]) -> Download:
    """Return what lies in the capture of a deployment's row."""
    return msgspec.convert(row.get(KEY, {}), Download)


def written(capture: Mapping[str, Any], download: Download) -> dict[str, Any]:
    """Return the capture of a row with this in it."""
    plain = msgspec.to_builtins(download)
    return {**capture, KEY: plain} if plain else dict(capture)
