"""What an update costs in bytes and time, against what everybody else would send.

Sizes: each pair of delta_pairs.py, against the smallest of `xdelta3 -9`, `bsdiff` and
`zstd -19 --patch-from`, all in this run. Goals: <= 0.62 of that for fp32 fine-tunes, <= 0.56 for
fp16 and bf16, <= 0.95 for int8, and on no pair more than 1 % + 1 KiB larger. float16 and
bfloat16 that moved by 0.1 % only stand under the last rule: bsdiff is good at them, and the entropy
of the steps, which is printed, leaves no 0.56. Whole weights
(`planes`) against `zstd -19` (<= 0.93) and the zipnn package (<= 1.02; `pip install --no-deps
zipnn`, left out if it is not there). Speed, on the 14 MB fp32 pair: making >= 50 times faster than
bsdiff and >= 100 MB/s, applying >= 150 MB/s on one core, in at most 64 MiB above the largest
tensor. Every delta is applied and compared. At last what each step of the fp32 delta gives, from
byte planes to the entropy bound, and what it costs. Prints tables, then one JSON object.

    python tests/benchmarks/bench_delta.py [--megabytes 4] [--speed-megabytes 14] [--rounds 5]
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import ml_dtypes
import numpy as np
import zstandard

from runtime.bundle.delta import make
from tests.benchmarks import delta_pairs
from tests.benchmarks.delta_pairs import Pair

MIB = 1 << 20
SPARE_BYTES = 1024
SPARE = 1.01
MAKE_MB_S, APPLY_MB_S, BSDIFF_TIMES, APPLY_MIB = 100, 150, 50, 64
PLANES_ZSTD, PLANES_ZIPNN = 0.93, 1.02
SPEED_PAIR = "fine-tune fp32, 0.1%"

Row = dict[str, Any]


def main() -> None:
    """Measure and print."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--megabytes", type=float, default=4)
    options.add_argument("--speed-megabytes", type=float, default=14)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--only", default="")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        rows = []
        say(HEAD)
        for pair in delta_pairs.pairs(chosen.megabytes, chosen.speed_megabytes):
            if chosen.only in pair.name:
                rows.append(measure(pair, place, chosen.rounds))
                say(_sized(rows[-1]))
        whole = [] if chosen.only else planes(chosen.speed_megabytes, place)
        rungs = [] if chosen.only else ladder(chosen.speed_megabytes, place)
    print_planes(whole)
    for rung in rungs:
        cost = "" if rung["s"] is None else f"{rung['s']:.3f} s"
        say(f"| {rung['step']} | {rung['of_full']:.4f} of the weights | {cost} |")
    speed = next((row for row in rows if row["pair"] == SPEED_PAIR), None)
    if speed is not None:
        print_speed(speed)
    ok = all(row["ok"] for row in rows + whole) and (speed is None or fast(speed))
    say(json.dumps({"bench": "delta", "pairs": rows, "whole": whole, "ladder": rungs, "ok": ok}))


def say(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)  # noqa: T201 - its output is the point


def measure(pair: Pair, place: Path, rounds: int) -> Row:
    """Return what each tool makes of a pair."""
    old, new = place / "old", place / "new"
    old.write_bytes(pair.old)
    new.write_bytes(pair.new)
    # bsdiff takes no empty file.
    tools = {name: tool for name, tool in OTHERS.items() if pair.old or name != "bsdiff"}
    others = {name: tool(old, new, place / name) for name, tool in tools.items()}
    mine = place / "delta"
    runs = rounds if pair.name == SPEED_PAIR else 1
    times = [timed(lambda: make.make(new, mine, old=old, encoding="auto")) for _ in range(runs)]
    size = mine.stat().st_size
    back = place / "back"
    apply_s, apply_mib = applied(old, mine, back, runs)
    if back.read_bytes() != pair.new:
        raise SystemExit(f"{pair.name}: the delta gives other bytes")
    best = min(cost for cost, _ in others.values())
    allowed = best * SPARE + SPARE_BYTES if pair.goal is None else best * pair.goal
    return {
        "pair": pair.name,
        "new_bytes": len(pair.new),
        "delta_bytes": size,
        **{f"{name}_bytes": cost for name, (cost, _) in others.items()},
        **{f"{name}_s": round(seconds, 3) for name, (_, seconds) in others.items()},
        "make_s": round(statistics.median(times), 4),
        "apply_s": round(apply_s, 4),
        "apply_mib": round(apply_mib, 1),
        "of_best": round(size / best, 4),
        "goal": pair.goal,
        "of_bound": None if pair.bound is None else round(size / pair.bound, 4),
        "ok": size <= allowed,
    }


def timed(work: Callable[[], object]) -> float:
    """Return the seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def applied(old: Path, delta: Path, target: Path, rounds: int) -> tuple[float, float]:
    """Return the median seconds and the peak MiB of applying in a process of its own.

    Its imports and a first round, which pays for everything that is done once, are not counted.
    """
    script = (
        "import statistics, sys, time\n"
        "from pathlib import Path\n"
        "from runtime.bundle.delta import apply\n"
        "def peak():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(line.split()[1]) for line in lines if line.startswith('VmHWM'))\n"
        "Path('/proc/self/clear_refs').write_text('5')\n"  # the peak is counted from here on
        "before, taken = peak(), []\n"
        "for _ in range(int(sys.argv[4]) + 1):\n"
        "    started = time.perf_counter()\n"
        "    with open(sys.argv[3], 'wb') as sink:\n"
        "        apply.apply(Path(sys.argv[1]), Path(sys.argv[2]), sink)\n"
        "    taken.append(time.perf_counter() - started)\n"
        "print(statistics.median(taken[1:]), peak() - before)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", script, str(old), str(delta), str(target), str(rounds)],
        check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    seconds, kib = found.stdout.split()
    return float(seconds), float(kib) / 1024


def _tool(*command: str) -> Callable[[Path, Path, Path], tuple[int, float]]:
    """Return a function that runs a program and gives its output's size and its seconds."""

    def run(old: Path, new: Path, target: Path) -> tuple[int, float]:
        places = {"OLD": str(old), "NEW": str(new), "OUT": str(target)}
        filled = [
            word.replace("OLD", places["OLD"]) if word.startswith("--patch-from") else
            places.get(word, word) for word in command
        ]  # fmt: skip
        target.unlink(missing_ok=True)
        seconds = timed(lambda: subprocess.run(filled, check=True, capture_output=True))
        return target.stat().st_size, seconds

    return run


OTHERS = {
    "xdelta3": _tool("xdelta3", "-9", "-e", "-f", "-s", "OLD", "NEW", "OUT"),
    "bsdiff": _tool("bsdiff", "OLD", "NEW", "OUT"),
    "zstd": _tool("zstd", "-q", "-19", "--long=27", "--patch-from=OLD", "NEW", "-o", "OUT"),
}


def planes(megabytes: float, place: Path) -> list[Row]:
    """Return what whole weights cost."""
    base = delta_pairs.weights(np.random.default_rng(delta_pairs.SEED), megabytes)
    rows = []
    for name, dtype in (("fp32", np.float32), ("fp16", np.float16), ("bf16", ml_dtypes.bfloat16)):
        layers = {key: array.astype(dtype) for key, array in base.items()}
        data = delta_pairs.graph(layers)
        (place / "whole").write_bytes(data)
        seconds = timed(
            lambda: make.make(place / "whole", place / "planes", old=None, encoding="planes")
        )
        size = (place / "planes").stat().st_size
        zstd = len(zstandard.ZstdCompressor(level=19).compress(data))
        zip_nn = zipnn(np.concatenate([a.reshape(-1) for a in layers.values()]).tobytes(), name)
        rows.append({
            "whole": name, "bytes": len(data), "planes_bytes": size, "zstd_bytes": zstd,
            "zipnn_bytes": zip_nn, "of_zstd": round(size / zstd, 4),
            "of_zipnn": None if zip_nn is None else round(size / zip_nn, 4),
            "make_s": round(seconds, 4),
            "ok": size <= zstd * PLANES_ZSTD and (zip_nn is None or size <= zip_nn * PLANES_ZIPNN),
        })  # fmt: skip
    return rows


def ladder(megabytes: float, place: Path) -> list[Row]:
    """Return what each step of the fp32 delta saves and costs: from planes to our format."""
    base = delta_pairs.weights(np.random.default_rng(delta_pairs.SEED), megabytes)
    tuned = delta_pairs.moved(np.random.default_rng(delta_pairs.SEED + 1), base)
    size = sum(array.nbytes for array in base.values())
    halves = [(array, tuned[name]) for name, array in base.items()]
    split: list[bytes] = []

    def planes_of() -> None:
        for old, new in halves:
            residual = delta_pairs.steps(old, new).astype(np.uint32).view(np.uint8).reshape(-1, 4)
            split.extend(np.ascontiguousarray(residual[:, plane]).tobytes() for plane in range(4))

    seconds = timed(planes_of)
    packed: list[bytes] = []
    compressor = zstandard.ZstdCompressor(level=1)
    seconds += timed(lambda: packed.extend(compressor.compress(plane) for plane in split))
    order0 = sum(delta_pairs.entropy(np.frombuffer(plane, np.uint8)) for plane in split) / 8
    bound = sum(delta_pairs.bound(old, new) for old, new in halves)
    (place / "old").write_bytes(delta_pairs.graph(base))
    (place / "new").write_bytes(delta_pairs.graph(tuned))
    took = timed(lambda: make.make(place / "new", place / "delta", old=place / "old"))
    ours = (place / "delta").stat().st_size
    return [
        {
            "step": "planes of the steps, zstd -1",
            "of_full": sum(map(len, packed)) / size,
            "s": seconds,
        },
        {"step": "entropy of those planes", "of_full": order0 / size, "s": None},
        {"step": "entropy given the old exponent", "of_full": bound / size, "s": None},
        {"step": "ours, whole file", "of_full": ours / size, "s": took},
    ]


def zipnn(data: bytes, name: str) -> int | None:
    """Return what zipnn makes of a stream of floats; None if it is not installed.

    Its bytes mode uses neither torch nor safetensors, but its module imports both: empty modules
    stand in for them, so that two gigabytes need not be installed.
    """
    script = (
        "import sys, types\n"
        "class Empty(types.ModuleType):\n"
        "    def __getattr__(self, name):\n"
        "        if name.startswith('__'): raise AttributeError(name)\n"
        "        return type(name, (), {})\n"
        "torch = Empty('torch')\n"
        "torch.jit = types.SimpleNamespace(script=lambda function: function)\n"
        "sys.modules['torch'] = torch\n"
        "sys.modules['safetensors.torch'] = Empty('safetensors.torch')\n"
        "from zipnn import ZipNN\n"
        "data = sys.stdin.buffer.read()\n"
        "make = lambda: ZipNN(bytearray_dtype=sys.argv[1], input_format='byte')\n"
        "packed = make().compress(bytearray(data))\n"
        "assert bytes(make().decompress(packed)) == data\n"
        "print(len(packed))\n"
    )
    dtype = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}[name]
    found = subprocess.run(
        [sys.executable, "-c", script, dtype], input=data, capture_output=True, check=False
    )
    return int(found.stdout.split()[-1]) if found.returncode == 0 else None


def _sized(row: Row) -> str:
    goal = "+1 %" if row["goal"] is None else f"{row['goal']:.2f}"
    sizes = [row.get(f"{name}_bytes") for name in (*OTHERS, "delta")]
    shown = " | ".join("none" if size is None else f"{size:>10,}" for size in sizes)
    return (
        f"| {row['pair']:<26} | {row['new_bytes'] / 1e6:8.3f} MB | {shown}"
        f" | {row['of_best']:7.3f} | {goal:>5} | {'yes' if row['ok'] else 'NO':>3}"
        f" | {row['of_bound'] or '':>6}"
        f" | {row['make_s']:8.3f} s | {row['apply_s']:7.3f} s |"
    )


HEAD = (
    "| pair | new file | xdelta3 -9 | bsdiff | zstd -19 --patch-from | ours | of the best | goal"
    " | met | of the entropy bound | make | apply |\n" + "|---" * 12 + "|"
)


def print_planes(rows: list[Row]) -> None:
    """Print the table of whole weights."""
    for row in rows:
        say(
            f"| whole {row['whole']} | {row['bytes'] / 1e6:.3f} MB | zstd -19 {row['zstd_bytes']:,}"
            f" | zipnn {row['zipnn_bytes'] or 'not installed'} | planes {row['planes_bytes']:,}"
            f" | {row['of_zstd']} of zstd | {row['of_zipnn']} of zipnn"
            f" | {'yes' if row['ok'] else 'NO'} |"
        )


def print_speed(row: Row) -> None:
    """Print how fast the fp32 fine-tune is made and applied."""
    megabytes = row["new_bytes"] / 1e6
    say(
        f"make {megabytes / row['make_s']:.0f} MB/s, {row['bsdiff_s'] / row['make_s']:.0f} times"
        f" faster than bsdiff ({row['bsdiff_s']:.1f} s); apply"
        f" {megabytes / row['apply_s']:.0f} MB/s in {row['apply_mib']:.0f} MiB above its imports"
    )


def fast(row: Row) -> bool:
    """Say whether the speed goals are met."""
    megabytes = row["new_bytes"] / 1e6
    return bool(
        megabytes / row["make_s"] >= MAKE_MB_S
        and row["bsdiff_s"] / row["make_s"] >= BSDIFF_TIMES
        and megabytes / row["apply_s"] >= APPLY_MB_S
        and row["apply_mib"] <= APPLY_MIB
    )


if __name__ == "__main__":
    missing = [program for program in ("xdelta3", "bsdiff", "zstd") if not shutil.which(program)]
    if missing:
        raise SystemExit(f"not installed: {', '.join(missing)}: run `make parts`")
    main()
