"""What the server counts, as Prometheus reads it."""

import asyncio
import sys

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from runtime.errors import ModelError
from runtime.serving import metrics
from runtime.serving.dataplane import DataPlane
from runtime.serving.metrics import Histogram, Meter
from tests.support import predictors

X = {"x": np.ones(1, np.float32)}


class Shown:
    """What a scrape of a meter shows."""

    def __init__(self, meter: Meter) -> None:
        text = metrics.render(metrics.registry(meter)).decode()
        families = text_string_to_metric_families(text)
        self._samples = [sample for family in families for sample in family.samples]

    def __call__(self, name: str, **labels: str) -> float:
        """Return the one value of this name and these labels, among others."""
        [found] = [
            sample.value
            for sample in self._samples
            if sample.name == f"packhorse_{name}" and labels.items() <= sample.labels.items()
        ]
        return float(found)


class Failing(predictors.Echo):
    def predict(self, *_: object) -> dict[str, np.ndarray]:
        raise ModelError("no")


def test_requests_errors_stages_and_queues_are_shown() -> None:
    plane = DataPlane()
    plane.add("good", "1", predictors.Echo())
    plane.add("bad", "2", Failing())
    good = plane.find("good")
    good.tally.observe("decode", 0.0003)
    for _ in range(3):
        asyncio.run(plane.run(good, X))
    with pytest.raises(ModelError):
        asyncio.run(plane.run(plane.find("bad"), X))
    plane.meter.unknown.failed("unknown")
    plane.close()

    shown = Shown(plane.meter)

    assert shown("requests_total", model="good", version="1") == 3
    assert shown("requests_total", model="bad") == 1
    assert shown("request_errors_total", model="bad", kind="model") == 1
    assert shown("request_errors_total", kind="unknown") == 1
    assert shown("stage_seconds_count", stage="decode") == 1
    assert shown("stage_seconds_bucket", stage="decode", le="0.0005") == 1
    assert shown("stage_seconds_bucket", stage="decode", le="0.00025") == 0
    assert shown("batch_requests_count", model="good") == 3
    assert shown("queue_requests", model="good") == 0
    assert shown("capture_dropped_total") == 0


def test_counters_go_on_when_a_version_is_loaded_again() -> None:
    plane = DataPlane()
    for _ in range(2):
        plane.add("m", "1", predictors.Echo())
        asyncio.run(plane.run(plane.find("m"), X))
    plane.withdraw("m", "1")

    assert Shown(plane.meter)("requests_total", model="m") == 2


def test_a_histogram_counts_below_its_bounds() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 99.0):
        histogram.observe(value)

    assert (histogram.counts, histogram.total) == ([2, 1, 1], 102.0)


def test_counting_imports_no_prometheus_client() -> None:
    code = "import runtime.serving.dataplane, sys; sys.exit('prometheus_client' in sys.modules)"

    assert asyncio.run(exit_code(code)) == 0


async def exit_code(code: str) -> int:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code)
    return await process.wait()
