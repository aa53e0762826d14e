"""What is counted of a candidate, and how much of the processor it may use."""

import collections
import math
import threading

from runtime.candidates import Counts

KEPT = 1000
"""Latencies of each version, the newest."""
BURST_S = 2.0
"""So many seconds' worth of its share may be used at once."""
NOTHING = Counts()
LEAST = 20
"""With fewer latencies the 95th percentile is that of before: one would be the highest of all."""
MAX_EXAMPLE_CHARS = 300


class Tally:
    """Counts; its methods may be called from any thread."""

    def __init__(self, before: Counts = NOTHING) -> None:
        """Go on from what was counted before."""
        self._lock, self._before = threading.Lock(), before
        self._requests, self._agreed = before.requests, before.agreed
        self._differed, self._errors = before.differed, before.errors
        self._dropped, self._served = before.dropped, before.served
        self._its: collections.deque[float] = collections.deque(maxlen=KEPT)
        self._own: collections.deque[float] = collections.deque(maxlen=KEPT)
        self._example = before.example

    def compared(self, difference: str, its_ms: float, own_ms: float) -> None:
        """Count two answers; an empty difference: they agree."""
        with self._lock:
            self._requests += 1
            self._its.append(its_ms)
            self._own.append(own_ms)
            if difference:
                self._differed += 1
                self._example = difference[:MAX_EXAMPLE_CHARS]
            else:
                self._agreed += 1

    def failed(self, why: str) -> None:
        """Count an input for which there was no answer."""
        with self._lock:
            self._requests += 1
            self._errors += 1
            self._example = why[:MAX_EXAMPLE_CHARS]

    def dropped(self) -> None:
        """Count an input that it was not given."""
        with self._lock:
            self._dropped += 1

    def served(self) -> None:
        """Count a request that it answered."""
        with self._lock:
            self._served += 1

    def counts(self) -> Counts:
        """Return everything so far."""
        with self._lock:
            return Counts(
                requests=self._requests,
                agreed=self._agreed,
                differed=self._differed,
                errors=self._errors,
                dropped=self._dropped,
                served=self._served,
                p95_ms=_p95_of(self._its, self._before.p95_ms),
                own_p95_ms=_p95_of(self._own, self._before.own_p95_ms),
                example=self._example,
            )


def _p95_of(values: collections.deque[float], before: float | None) -> float | None:
    return before if before is not None and len(values) < LEAST else p95(values)


def p95(values: collections.deque[float]) -> float | None:
    """Return the 95th percentile; None: there are no values."""
    if not values:
        return None
    return sorted(values)[math.ceil(0.95 * len(values)) - 1]


class Budget:
    """A share of a core, as a bucket that fills with time and is emptied by what was used."""

    def __init__(self, cores: float, now: float) -> None:
        """Begin with a full bucket; `now` is a monotonic clock's."""
        self._cores, self._at = cores, now
        self._credit_s = self._most_s = cores * BURST_S
        self._used_s: float | None = None

    def allows(self, now: float) -> bool:
        """Say whether anything is left."""
        self._credit_s = min(self._most_s, self._credit_s + (now - self._at) * self._cores)
        self._at = now
        return self._credit_s > 0

    def used(self, cpu_s: float) -> None:
        """Take off what the process has used since it said so last; its beginning is free."""
        if self._used_s is not None:
            self._credit_s -= max(0.0, cpu_s - self._used_s)
        self._used_s = cpu_s
