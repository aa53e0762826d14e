"""The gateway's numbers for Prometheus; the one door to prometheus_client in this package."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import prometheus_client
from prometheus_client import exposition
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.registry import Collector

from runtime.gateway.config import LATENCY_BOUNDS_MS, Status
from runtime.gateway.stats import RevisionCounts, Stats

Metric = CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily


@dataclass(frozen=True)
class Sources:
    """Where the numbers are."""

    stats: Stats
    status: Callable[[], Status]
    retries: Callable[[], dict[str, int]]
    """By why the first try failed."""
    drops: Callable[[], dict[str, int]]
    """By what was dropped: "mirror", "mirror_failed", "capture"."""


def page(sources: Sources) -> tuple[bytes, str]:
    """Return the page, and its content type."""
    registry = prometheus_client.CollectorRegistry()
    registry.register(_Numbers(sources))
    return exposition.generate_latest(registry), exposition.CONTENT_TYPE_LATEST


class _Numbers(Collector):
    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    def collect(self) -> Iterator[Metric]:
        yield from self._of_all()
        yield from _of_revisions(self._sources.stats.revisions)
        yield from self._of_configuration()

    def _of_all(self) -> Iterator[Metric]:
        stats = self._sources.stats
        yield _counter("answers", "HTTP answers.", "status", stats.answers)
        yield _counter("rpcs", "gRPC answers.", "code", stats.rpcs)
        yield _counter("retries", "Further tries, by cause.", "cause", self._sources.retries())
        yield _counter("dropped", "Copies not kept or compared.", "what", self._sources.drops())
        yield _counter("clients_gone", "Clients gone before their answer.", None, {"": stats.gone})
        yield GaugeMetricFamily(
            "packhorse_gateway_requests_in_hand", "Requests not answered yet.", stats.in_hand
        )

    def _of_configuration(self) -> Iterator[Metric]:
        status = self._sources.status()
        yield GaugeMetricFamily(
            "packhorse_gateway_generation", "Of the configuration in force.", status.generation
        )
        yield GaugeMetricFamily(
            "packhorse_gateway_trouble",
            "1 if the newest configuration is not in force.",
            int(bool(status.trouble)),
        )
        healthy = GaugeMetricFamily(
            "packhorse_gateway_replicas_healthy", "Replicas that answer.", labels=["revision"]
        )
        for revision, addresses in status.healthy.items():
            healthy.add_metric([revision], len(addresses))
        yield healthy


def _of_revisions(revisions: dict[str, RevisionCounts]) -> Iterator[Metric]:
    fields = (
        ("requests", "Requests, by revision.", "requests"),
        ("errors", "Answers of 500 and above, and none.", "errors"),
        ("compared", "Mirrored answers that were compared.", "compared"),
        ("different", "Mirrored answers that were different.", "different"),
    )
    for name, text, field in fields:
        numbers = {revision: getattr(counts, field) for revision, counts in revisions.items()}
        yield _counter(name, text, "revision", numbers)
    latency = HistogramMetricFamily(
        "packhorse_gateway_latency_seconds", "Until the answer.", labels=["revision"]
    )
    for revision, counts in revisions.items():
        total, buckets = 0, []
        bounds = [*(repr(bound / 1000) for bound in LATENCY_BOUNDS_MS), "+Inf"]
        for bound, count in zip(bounds, counts.latency, strict=True):
            total += count
            buckets.append((bound, total))
        latency.add_metric([revision], buckets, counts.latency_ms_sum / 1000)
    yield latency


def _counter(
    name: str, text: str, label: str | None, numbers: "dict[str, int] | dict[int, int]"
) -> CounterMetricFamily:
    labels = [] if label is None else [label]
    family = CounterMetricFamily(f"packhorse_gateway_{name}", text, labels=labels)
    for value, number in sorted(numbers.items()):
        family.add_metric([] if label is None else [str(value)], number)
    return family
