"""What the server counts, in plain integers, and how Prometheus reads it.

Nothing on the way of a request takes a lock: every writer has a Tally of its own (the event loop
one for each model, a model's threads another, under the lock of their queue), and a scrape adds
them up. Numbers of a version stay when it is unloaded: a counter never goes back.

    packhorse_requests_total{model,version}             answered or failed, once they are known
    packhorse_request_errors_total{model,version,kind}  of which failed: invalid, busy, deadline, …
    packhorse_stage_seconds{model,version,stage}        histogram: decode, queue, run, encode
    packhorse_batch_requests{model,version}             histogram: requests that ran together
    packhorse_queue_requests{model,version}             waiting now
    packhorse_capture_dropped_total                     records that found no room
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

STAGES = ("decode", "queue", "run", "encode")
SECONDS = (
    0.00002, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
    0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram:
    """How often a value lay below each bound. One writer at a time."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def add(self, other: "Histogram") -> None:
        """Count what another has counted."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Tally:
    """What one writer counts of one model version."""

    __slots__ = ("batch", "decode", "encode", "errors", "queue", "requests", "run")

    def __init__(self) -> None:
        self.requests = 0
        self.errors: dict[str, int] = {}
        self.decode, self.queue = Histogram(SECONDS), Histogram(SECONDS)
        self.run, self.encode = Histogram(SECONDS), Histogram(SECONDS)
        self.batch = Histogram(SIZES)

    def observe(self, stage: str, seconds: float) -> None:
        """Count how long a stage took; `tally.run.observe` and its like are the quick way."""
        histogram: Histogram = getattr(self, stage)
        histogram.observe(seconds)

    def failed(self, kind: str) -> None:
        """Count a request that failed: `kind` is of a fixed few."""
        self.requests += 1
        self.errors[kind] = self.errors.get(kind, 0) + 1

    def add(self, other: "Tally") -> None:
        """Count what another has counted."""
        self.requests += other.requests
        for kind, count in list(other.errors.items()):
            self.errors[kind] = self.errors.get(kind, 0) + count
        for name in (*STAGES, "batch"):
            getattr(self, name).add(getattr(other, name))


Key = tuple[str, str]
"""Model and version."""


class Meter:
    """All tallies of a server."""

    def __init__(self) -> None:
        self._tallies: dict[tuple[str, str, str], Tally] = {}
        self.unknown = Tally()
        """Requests for what is not here; they have no model to be counted for."""
        self.queues: Callable[[], dict[Key, int]] = dict
        """What waits now, by model; the data plane's."""
        self.capture_dropped: Callable[[], int] = int

    def tally(self, model: str, version: str, writer: str = "loop") -> Tally:
        """Return the tally of one writer; the same one as long as the server runs."""
        return self._tallies.setdefault((model, version, writer), Tally())

    def totals(self) -> dict[Key, Tally]:
        """Return what all writers have counted, by model."""
        found: dict[Key, Tally] = {}
        for (model, version, _), tally in list(self._tallies.items()):
            found.setdefault((model, version), Tally()).add(tally)
        return found


class Collector:
    """Shows a meter to prometheus_client at the moment of a scrape."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def collect(self) -> "Iterator[Metric]":
        """Yield the metric families."""
        from prometheus_client import core  # noqa: PLC0415 - a device's worker needs none

        names = ["model", "version"]
        requests = core.CounterMetricFamily(
            "packhorse_requests", "Requests that were answered or failed.", labels=names
        )
        errors = core.CounterMetricFamily(
            "packhorse_request_errors", "Requests that failed.", labels=[*names, "kind"]
        )
        stages = core.HistogramMetricFamily(
            "packhorse_stage_seconds", "Seconds in a stage of a request.", labels=[*names, "stage"]
        )
        batches = core.HistogramMetricFamily(
            "packhorse_batch_requests", "Requests that ran together.", labels=names
        )
        waiting = core.GaugeMetricFamily(
            "packhorse_queue_requests", "Requests that wait for their turn.", labels=names
        )
        dropped = core.CounterMetricFamily(
            "packhorse_capture_dropped", "Records that found no room.",
            value=self._meter.capture_dropped(),
        )  # fmt: skip
        for key, tally in (*self._meter.totals().items(), (("", ""), self._meter.unknown)):
            requests.add_metric(key, tally.requests)
            for kind, count in list(tally.errors.items()):
                errors.add_metric([*key, kind], count)
            for stage in STAGES:
                _add(stages, [*key, stage], getattr(tally, stage))
            _add(batches, key, tally.batch)
        for key, count in self._meter.queues().items():
            waiting.add_metric(key, count)
        yield from (requests, errors, stages, batches, waiting, dropped)


def registry(meter: Meter) -> "CollectorRegistry":
    """Return a registry of prometheus_client that shows a meter; others may register there too."""
    import prometheus_client  # noqa: PLC0415 - a device's worker needs none

    made = prometheus_client.CollectorRegistry(auto_describe=False)
    made.register(Collector(meter))
    return made


def render(shown: "CollectorRegistry") -> bytes:
    """Return what a scrape gets, of CONTENT_TYPE."""
    import prometheus_client  # noqa: PLC0415 - a device's worker needs none

    return prometheus_client.generate_latest(shown)


def _add(family: Any, labels: Any, histogram: Histogram) -> None:
    """Add a histogram, unless nothing was ever counted."""
    count, buckets = 0, []
    for bound, own in zip((*histogram.bounds, "+Inf"), list(histogram.counts), strict=True):
        count += own
        buckets.append((str(bound), count))
    if count:
        family.add_metric(labels, buckets=buckets, sum_value=histogram.total)
