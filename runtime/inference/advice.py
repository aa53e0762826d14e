"""What a bundle's `resources` and `batching` should say, given what was measured."""

import math
from collections.abc import Sequence

import msgspec

from runtime.bundle.index import Batching
from runtime.inference.profile import Measurement

ENOUGH = 0.8
"""Fewer cores are enough if they give this share of the best throughput."""
GAIN = 1.25
"""Batches are worth it from this gain in rows a second on."""
QUICK_MS = 0.2
"""What is quicker runs in the server's event loop, where nothing waits that could go together."""
MARGIN = 1.25
STEP_MB = 32
"""Memory is advised in steps of this."""


class Advice(msgspec.Struct, frozen=True):
    """What to write into a bundle.yaml, and why."""

    cpu: int
    memory_mb: int
    batching: Batching | None
    because: tuple[str, ...]


def advise(measured: Sequence[Measurement]) -> Advice:
    """Return what fits best; `measured` has at least one that worked."""
    worked = [each for each in measured if not each.error]
    smallest = min(each.rows for each in worked)
    single = [each for each in worked if each.rows == smallest]
    threads, reached, why = _threads(single)
    because = [f"cpu: {why}"]
    batching, why = _batching(
        [each for each in worked if each.setting.threads == threads], smallest, reached
    )
    because.append(f"batching: {why}")
    most_rows = smallest if batching is None else batching.max_size
    used = max(each.memory_mb for each in worked if _counts(each, threads, most_rows))
    memory_mb = math.ceil(used * MARGIN / STEP_MB) * STEP_MB
    because.append(f"memory_mb: {used:.0f} MiB were used, and a quarter more is for the worker")
    return Advice(threads, memory_mb, batching, tuple(because))


def _threads(single: Sequence[Measurement]) -> tuple[int, float, str]:
    """Return the fewest threads that are enough, the rows a second they give, and why."""
    fewest = min(each.setting.threads for each in single)
    by_threads = {
        threads: max(each.rows_s for each in single if each.setting.threads == threads)
        for threads in {each.setting.threads for each in single}
    }
    quickest = min(each.p50_ms for each in single if each.setting.threads == fewest)
    if quickest < QUICK_MS:
        return (
            fewest,
            by_threads[fewest],
            f"a run takes {quickest * 1000:.0f} us: fewest are enough",
        )
    best = max(by_threads.values())
    threads = min(threads for threads, rows_s in by_threads.items() if rows_s >= ENOUGH * best)
    reached = by_threads[threads]
    why = f"with threads: {threads} there are {reached:.0f} rows/s, of {best:.0f} with the best"
    return threads, reached, why


def _counts(each: Measurement, threads: int, most_rows: int) -> bool:
    return each.setting.threads == threads and each.rows <= most_rows


def _batching(
    of_threads: Sequence[Measurement], smallest: int, alone: float
) -> tuple[Batching | None, str]:
    quickest = min(each.p50_ms for each in of_threads if each.rows == smallest)
    larger = [each for each in of_threads if each.rows > smallest]
    if not larger:
        return None, "no: only one size was measured"
    best = max(each.rows_s for each in larger)
    gain = best / alone
    if quickest < QUICK_MS:
        return None, f"no: a run takes {quickest * 1000:.0f} us, so nothing waits"
    if gain < GAIN:
        return None, f"no: larger batches give {gain:.2f} times the rows/s"
    size = min(each.rows for each in larger if each.rows_s >= ENOUGH * best)
    return Batching(max_size=size), f"batches of {size} rows give up to {gain:.2f} times the rows/s"
