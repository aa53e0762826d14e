"""Resident memory of a server that loads a new version of a model again and again, under requests.

A conv net of 15 MB is loaded N times in one process, each time beside the one before, which is then
drained; a client asks all the while. Goals: no request fails, and after the first reloads memory
does not grow any more (last quarter / second quarter <= 1.05). Prints JSON.

    python tests/benchmarks/bench_reload.py [--reloads 200] [--keep-freed]
"""

import argparse
import asyncio
import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import psutil
from onnx import TensorProto, helper

from runtime.bundle.index import Index
from runtime.errors import PackhorseError
from runtime.serving import repository
from runtime.serving.dataplane import DataPlane
from runtime.serving.repository import Repository
from tests.support import models

GOAL = 1.05
MIB = 1 << 20
CHANNELS = (3, 64, 128, 256, 512, 512)


class Endless:
    """A shelf on which one bundle lies under every version."""

    def __init__(self, directory: Path, index: Index) -> None:
        self._directory, self._index = directory, index
        self.count = 1

    def versions(self) -> Sequence[tuple[str, str]]:
        """Return as many as there are now."""
        return [("net", str(n)) for n in range(1, self.count + 1)]

    def open(self, name: str, version: str) -> tuple[Path, Index]:
        """Return the bundle."""
        del name, version
        return self._directory, self._index


def conv_net() -> bytes:
    """Take x FP32[-1, 3, 64, 64] to y FP32[-1, 512] through five convolutions, 3.9 M weights."""
    rng = np.random.default_rng(0)
    weights: dict[str, Any] = {}
    nodes = []
    for place, (wide, out) in enumerate(itertools.pairwise(CHANNELS)):
        kernel = rng.standard_normal((out, wide, 3, 3), dtype=np.float32) / (3 * wide**0.5)
        weights[f"w{place}"] = kernel.astype(np.float32)
        source = f"r{place - 1}" if place else "x"
        nodes += [
            helper.make_node(
                "Conv", [source, f"w{place}"], [f"c{place}"], strides=[2, 2], pads=[1] * 4
            ),
            helper.make_node("Relu", [f"c{place}"], [f"r{place}"]),
        ]
    last = f"r{len(CHANNELS) - 2}"
    nodes.append(helper.make_node("ReduceMean", [last], ["y"], axes=[2, 3], keepdims=0))
    return models.made(
        nodes,
        [models.tensor("x", TensorProto.FLOAT, ["N", 3, 64, 64])],
        [models.tensor("y", TensorProto.FLOAT, ["N", 512])],
        weights,
    )


async def reload(shelf: Endless, reloads: int) -> dict[str, Any]:
    """Return what became of memory and requests."""
    plane = DataPlane()
    repo = Repository(plane, shelf)
    await repo.load("net")
    asked, failed, over = 0, 0, asyncio.Event()
    x = {"x": np.ones((1, 3, 64, 64), np.float32)}

    async def ask() -> None:
        nonlocal asked, failed
        while not over.is_set():
            asked += 1
            try:
                await plane.run(plane.find("net"), x)
            except PackhorseError:
                failed += 1

    clients = [asyncio.ensure_future(ask()) for _ in range(2)]
    process, sizes, took = psutil.Process(), [], []
    for _ in range(reloads):
        shelf.count += 1
        started = time.perf_counter()
        await repo.load("net")
        took.append(time.perf_counter() - started)
        sizes.append(process.memory_info().rss / MIB)
    over.set()
    await asyncio.gather(*clients)
    quarter = max(1, reloads // 4)
    second = statistics.median(sizes[quarter : 2 * quarter])
    last = statistics.median(sizes[-quarter:])
    plane.close()
    return {
        "reloads": reloads,
        "requests": asked,
        "failed": failed,
        "rss_mb_first": round(sizes[0], 1),
        "rss_mb_second_quarter": round(second, 1),
        "rss_mb_last_quarter": round(last, 1),
        "rss_mb_most": round(max(sizes), 1),
        "growth": round(last / second, 3),
        "goal": GOAL,
        "reload_s": round(statistics.median(took), 3),
    }


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--reloads", type=int, default=200)
    options.add_argument("--keep-freed", action="store_true", help="do not call malloc_trim")
    chosen = options.parse_args()
    if chosen.keep_freed:
        repository.give_back = lambda: None
    with tempfile.TemporaryDirectory() as scratch:
        index = models.install(Path(scratch), conv_net(), name="net")
        found = asyncio.run(reload(Endless(Path(scratch), index), chosen.reloads))
    print(json.dumps(found, indent=2))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
