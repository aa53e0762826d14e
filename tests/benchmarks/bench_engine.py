"""What the engine adds to onnxruntime, and what batching gives: no transport, one process.

    overhead    tiny MLP: DataPlane.find + fits + run_now, over InferenceSession.run; goal <= 4 us
    batching    16 requests at once through DataPlane.run, batching on / off, in requests a second:
                wide (three layers of 1024), which gains, and the conv net of bench_reload, which
                may not
    isolated    a script's `run` in its own process: microseconds a call, 16 floats and 600 KB

Prints JSON.

    python tests/benchmarks/bench_engine.py [--rounds 5] [--seconds 1.0]
"""

import argparse
import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parent))

import bench_reload
import msgspec
import numpy as np
from onnx import TensorProto, helper

from runtime.bundle.build import build
from runtime.bundle.index import Batching
from runtime.inference.tensors import Arrays
from runtime.serving import loading
from runtime.serving.dataplane import DataPlane
from tests.support import models, scripts

GOAL_US = 4.0
RUNS = 5000
AT_ONCE = 16
ECHO = "def run(inputs):\n    return {'y': inputs['x']}\n"
SIGNATURE = """signature:
  inputs: [{name: x, datatype: FP32, shape: [-1]}]
  outputs: [{name: y, datatype: FP32, shape: [-1]}]
"""


def wide_model() -> bytes:
    """Take x FP32[-1, 1024] to y FP32[-1, 1024] through three dense layers."""
    rng = np.random.default_rng(0)
    weights = {
        f"w{n}": rng.standard_normal((1024, 1024), dtype=np.float32) / np.float32(32)
        for n in range(3)
    }
    names = ["x", "a", "b", "y"]
    return models.made(
        [helper.make_node("MatMul", [names[n], f"w{n}"], [names[n + 1]]) for n in range(3)],
        [models.tensor("x", TensorProto.FLOAT, ["N", 1024])],
        [models.tensor("y", TensorProto.FLOAT, ["N", 1024])],
        weights,
    )


def microseconds(function: Callable[[], object], runs: int = RUNS) -> float:
    """Return what one call takes."""
    started = time.perf_counter()
    for _ in range(runs):
        function()
    return (time.perf_counter() - started) / runs * 1e6


def overhead(scratch: Path, rounds: int) -> dict[str, Any]:
    """Return what a quick model's request costs above its session."""
    index = models.install(scratch / "tiny", models.mlp_model())
    model, measured = loading.load(scratch / "tiny", index)
    plane = DataPlane()
    plane.add("tiny", "1", model, measured)
    session = model._graph._session  # type: ignore[attr-defined]
    x = {"x": np.ones((1, 16), np.float32)}

    def ask() -> None:
        served = plane.find("tiny")
        assert served.fits(x)
        plane.run_now(served, x)

    raw, ours = [], []
    for _ in range(rounds):
        raw.append(microseconds(lambda: session.run(["y"], x)))
        ours.append(microseconds(ask))
    plane.close()
    added = min(ours) - min(raw)
    return {
        "session_us": round(min(raw), 2),
        "engine_us": round(min(ours), 2),
        "added_us": round(added, 2),
        "goal_us": GOAL_US,
    }


async def _rate(plane: DataPlane, inputs: Arrays, seconds: float) -> float:
    served, until, count = plane.find("m"), time.perf_counter() + seconds, 0

    async def ask() -> None:
        nonlocal count
        while time.perf_counter() < until:
            await plane.run(served, inputs)
            count += 1

    started = time.perf_counter()
    await asyncio.gather(*(ask() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - started)


def batching(scratch: Path, rounds: int, seconds: float) -> dict[str, Any]:
    """Return requests a second with and without batches."""
    found = {}
    for name, content, shape in (
        ("wide", wide_model(), (1, 1024)),
        ("conv", bench_reload.conv_net(), (1, 3, 64, 64)),
    ):
        index = models.install(scratch / name, content)
        rates: dict[str, list[float]] = {"off": [], "on": []}
        for _ in range(rounds):
            for how, chosen in (("off", None), ("on", Batching(max_size=AT_ONCE))):
                own = msgspec.structs.replace(index, batching=chosen)
                plane = DataPlane()
                plane.add("m", "1", *loading.load(scratch / name, own))
                inputs = {"x": np.ones(shape, np.float32)}
                rates[how].append(asyncio.run(_rate(plane, inputs, seconds)))
                plane.close()
        off, on = (statistics.median(rates[how]) for how in ("off", "on"))
        found[name] = {"off_s": round(off), "on_s": round(on), "ratio": round(on / off, 2)}
    return found


def isolated(scratch: Path) -> dict[str, Any]:
    """Return what a call of a script in its own process takes."""
    scripts.write(scratch / "echo", script=ECHO, yaml=SIGNATURE)
    model, _ = loading.load(scratch / "echo", build(scratch / "echo").index)
    found = {}
    for name, size in (("floats_16", 16), ("kb_600", 150_000)):
        x = {"x": np.ones(size, np.float32)}
        found[f"{name}_us"] = round(microseconds(lambda x=x: model.predict(x), 500))  # type: ignore[misc] # bound
    model.close()
    return found


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=float, default=1.0)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        found = {
            "overhead": overhead(scratch, chosen.rounds),
            "batching": batching(scratch, chosen.rounds, chosen.seconds),
            "isolated": isolated(scratch),
        }
    print(json.dumps(found, indent=2))  # noqa: T201 - its output


if __name__ == "__main__":
    main()
