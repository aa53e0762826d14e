"""Times that come again and again: five fields of cron in a time zone, and a hard end. Pure.

The zone's rules come from the system or, where it has none, from the package tzdata.
"""

import datetime as dt
import itertools
import zoneinfo
from collections.abc import Iterable, Iterator

from cronsim import CronSim, CronSimError

from cloud.rollouts.strategy import Span, Strategy, Window
from runtime.errors import InvalidError

LOOKAHEAD_S = 400 * 86400.0
MOST_LOOKED = 400
"""Windows of one kind that are looked at, to see whether they meet one of the other."""


def check(window: Window, field: str) -> None:
    """Raise InvalidError unless this can be read; days that there never are cannot."""
    zone = _zone(window.zone, field)
    try:
        CronSim(window.cron, dt.datetime(2024, 1, 1, tzinfo=zone))
    except CronSimError as error:
        fix = f"{error}: write five fields, such as '0 2 * * 1-5': minute hour day month weekday"
        raise InvalidError(f"{field}.cron", window.cron, fix) from error


def meet(some: tuple[Window, ...], others: tuple[Window, ...], now: float) -> bool:
    """Say whether both are open at once some time soon; no window is always open."""
    if not some or not others:
        return True
    return _touch(some, others, now) or _touch(others, some, now)


def _touch(some: tuple[Window, ...], others: tuple[Window, ...], now: float) -> bool:
    """Say whether, while one of `some` is open, one of `others` is."""
    return any(
        is_open(others, begin) or (next_begin(others, begin) or end) < end
        for window in some
        for begin, end in itertools.islice(_around((window,), now, now + LOOKAHEAD_S), MOST_LOOKED)
    )


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
    return min((begin for begin, _end in _next(windows, now)), default=None)


def current(windows: Iterable[Window], now: float) -> Span | None:
    """Return the window that is open now, the longest of several, or else the next; None: never."""
    opened = [span for span in _around(windows, now, now) if span[0] <= now < span[1]]
    if opened:
        return max(opened, key=lambda span: span[1])
    return min(_next(windows, now), default=None)


def _next(windows: Iterable[Window], now: float) -> Iterator[Span]:
    """Yield of each window when it is open next."""
    for window in windows:
        begin = next(_begins(window, now), None)
        if begin is not None:
            yield begin, begin + window.for_s


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


def counted_s(strategy: Strategy, since: float, until: float) -> float | None:
    """Return how much of a span counts as time that devices had; None: all of it."""
    listed = [each for each in (strategy.update, strategy.download) if each]
    return min((opened_s(each, since, until) for each in listed), default=None)


def after(windows: tuple[Window, ...], since: float, needed_s: float) -> float | None:
    """Return when windows will have been open for so long; None: never."""
    if not windows:
        return since + needed_s
    for _ in range(MOST_LOOKED):
        span = current(windows, since)
        if span is None:
            return None
        begin, end = max(span[0], since), span[1]
        if end - begin >= needed_s:
            return begin + needed_s
        since, needed_s = end, needed_s - (end - begin)
    return None


def _around(windows: Iterable[Window], since: float, until: float) -> Iterator[Span]:
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
