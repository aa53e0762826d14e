"""Times that come again and again: five fields of cron in a time zone, and a hard end. Pure.

The zone's rules come from the system or, where it has none, from the package tzdata.
"""

import datetime as dt
import zoneinfo
from collections.abc import Iterable, Iterator

from cronsim import CronSim, CronSimError

from cloud.rollouts.strategy import Window
from runtime.errors import InvalidError


def check(window: Window, field: str) -> None:
    """Raise InvalidError unless this can be read."""
    zone = _zone(window.zone, field)
    try:
        CronSim(window.cron, dt.datetime(2024, 1, 1, tzinfo=zone))
    except CronSimError as error:
        fix = f"{error}: write five fields, such as '0 2 * * 1-5': minute hour day month weekday"
        raise InvalidError(f"{field}.cron", window.cron, fix) from error


def _zone(name: str, field: str) -> zoneinfo.ZoneInfo:
    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        fix = "write an IANA name, such as Europe/Vienna or UTC"
        raise InvalidError(f"{field}.zone", name, fix) from error


def end_of(windows: Iterable[Window], now: float) -> float | None:
    """Return when the window that is open now ends, the latest of several; None: none is."""
    ends = [end for begin, end in _around(windows, now, now) if begin <= now < end]
    return max(ends, default=None)


def is_open(windows: tuple[Window, ...], now: float) -> bool:
    """Say whether it may happen now; always if there is no window."""
    return not windows or end_of(windows, now) is not None


def next_begin(windows: tuple[Window, ...], now: float) -> float | None:
    """Return when the next window begins; None: never, or there is none."""
    begins = []
    for window in windows:
        found = next(_begins(window, now), None)
        if found is not None:
            begins.append(found)
    return min(begins, default=None)


def opened_s(windows: tuple[Window, ...], since: float, until: float) -> float:
    """Return for how many seconds of a span it could happen."""
    if not windows:
        return max(0.0, until - since)
    total, reached = 0.0, since
    for begin, end in sorted(_around(windows, since, until)):
        start, stop = max(begin, reached), min(end, until)
        if stop > start:
            total, reached = total + stop - start, stop
    return total


def _around(windows: Iterable[Window], since: float, until: float) -> Iterator[tuple[float, float]]:
    """Yield begin and end of every window that touches a span."""
    for window in windows:
        for begin in _begins(window, since - window.for_s):
            if begin > until:
                break
            yield begin, begin + window.for_s


def _begins(window: Window, after: float) -> Iterator[float]:
    start = dt.datetime.fromtimestamp(after - 60, tz=_zone(window.zone, "window"))
    try:
        for moment in CronSim(window.cron, start):
            if moment.timestamp() >= after:
                yield moment.timestamp()
    except StopIteration:
        return
