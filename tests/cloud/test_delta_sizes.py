"""No delta of ours is more than 1 % and 1 KiB larger than the best of the tools at hand.

Small pairs; tests/benchmarks/bench_delta.py has the large ones. In tests/cloud since the registry
makes the deltas: with the [cloud] extra.
"""

import io
import json
import random
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.delta import apply, make
from tests.support import delta_graphs, parts

ROOT = Path(__file__).parents[2]
Pair = tuple[bytes, bytes]


def sources() -> dict[str, bytes]:
    """Return some of our own modules."""
    return {path.name: path.read_bytes() for path in sorted(ROOT.glob("runtime/*.py"))}


def edited() -> dict[str, bytes]:
    """Return the modules with lines put in and taken out, one gone, in another order."""
    rng = random.Random(1)
    new = {}
    for name, content in list(sources().items())[1:]:
        lines = content.splitlines(keepends=True)
        at = rng.randrange(len(lines) + 1)
        lines[at : at + 2] = [b"    value = compute(%d)\n" % rng.randrange(10**6)]
        new[name] = b"".join(lines).replace(b"error", b"fault")
    return {name: new[name] for name in sorted(new, reverse=True)}


def text() -> Pair:
    return b"".join(sources().values()), b"".join(edited().values())


def tarred() -> Pair:
    def tar(content: dict[str, bytes]) -> bytes:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w") as archive:
            for name, data in content.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return file.getvalue()

    return tar(sources()), tar(edited())


def zipped() -> Pair:
    def pack(content: dict[str, bytes]) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in sorted(content.items()):
                archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
        return file.getvalue()

    return pack(sources()), pack(edited())


def document() -> Pair:
    rng = random.Random(2)
    rows = [{"id": n, "name": f"device-{rng.random()}", "value": rng.random()} for n in range(3000)]
    changed = [{**row, "value": rng.random()} if n % 40 == 0 else row for n, row in enumerate(rows)]
    return json.dumps(rows).encode(), json.dumps([*changed[:900], *changed[905:]]).encode()


def code() -> Pair:
    """Return bytes in which everything moved and every address changed by the same."""
    old = bytearray(random.Random(3).choices(range(256), weights=range(256, 0, -1), k=300_000))
    for place in range(0, len(old) - 8, 23):
        old[place : place + 4] = (place * 7).to_bytes(4, "little")
    new = bytearray(old[:100_000] + b"a new function" * 9 + old[100_000:])
    for place in range(0, 100_000, 23):
        new[place : place + 4] = (place * 7 + 126).to_bytes(4, "little")
    return bytes(old), bytes(new)


BASE = delta_graphs.weights(width=128)


def renamed() -> Pair:
    new = {f"onnx::MatMul_{n}": BASE[name] for n, name in enumerate(sorted(BASE))}
    return delta_graphs.onnx_file(BASE), delta_graphs.onnx_file(new, opset=17)


def rows_put_in() -> Pair:
    rows = np.random.default_rng(6).normal(0, 1, (5, 128)).astype(np.float32)
    new = {**BASE, "embedding": np.insert(BASE["embedding"], [77] * 5, rows, axis=0)}
    return delta_graphs.onnx_file(BASE), delta_graphs.onnx_file(new)


def pruned() -> Pair:
    new = {
        name: np.where(np.abs(array) < np.median(np.abs(array)), 0, array).astype(np.float32)
        for name, array in BASE.items()
    }
    return delta_graphs.onnx_file(BASE), delta_graphs.onnx_file(new)


def sparse() -> Pair:
    rng = np.random.default_rng(8)
    new = {name: array + (rng.random(array.shape) < 0.002) for name, array in BASE.items()}
    return delta_graphs.onnx_file(BASE), delta_graphs.onnx_file(
        {name: array.astype(np.float32) for name, array in new.items()}
    )


def unrelated() -> Pair:
    other = delta_graphs.weights(seed=50, width=128)
    return delta_graphs.onnx_file(BASE), delta_graphs.onnx_file(other)


@pytest.mark.parametrize(
    "pair",
    [
        text, tarred, zipped, document, code, renamed, rows_put_in, pruned, sparse, unrelated
    ],
    ids=lambda pair: str(pair.__name__),
)  # fmt: skip
def test_no_tool_makes_a_smaller_delta(pair: Callable[[], Pair], tmp_path: Path) -> None:
    old, new, target = (tmp_path / name for name in ("old", "new", "target"))
    for path, content in zip((old, new), pair(), strict=True):
        path.write_bytes(content)
    commands = (
        [parts.require("xdelta3"), "-9", "-e", "-f", "-s", old, new, target],
        [parts.require("bsdiff"), old, new, target],
        [parts.require("zstd"), "-q", "-f", "-19", f"--patch-from={old}", new, "-o", target],
    )
    sizes = []
    for command in commands:
        subprocess.run(command, check=True, capture_output=True)
        sizes.append(target.stat().st_size)

    made = make.make(new, tmp_path / "delta", old=old)
    apply.apply_file(old, tmp_path / "delta", tmp_path / "back")

    assert (tmp_path / "back").read_bytes() == new.read_bytes()
    assert made.delta_bytes <= 1.01 * min(sizes) + 1024
