"""Pairs of files as updates make them: what bench_delta.py measures on. Every pair is made here,
from a seed, so that a figure can be had again.
"""

import io
import math
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import onnx.version_converter
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

Array = NDArray[Any]
Weights = dict[str, Array]
Cast = Callable[[Weights], Weights]

MOVED = 0.001
"""A fine-tune moves each weight by this part of its layer's deviation, unless it says otherwise."""
SEED = 7


@dataclass(frozen=True)
class Pair:
    """An old and a new file."""

    name: str
    old: bytes
    new: bytes
    goal: float | None = None
    """The delta may have at most this part of the best other tool's; None: 1 % + 1 KiB more."""
    bound: float | None = None
    """Bytes that the moved weights need at least, if each is told from the old one's exponent."""


def pairs(megabytes: float, speed_megabytes: float) -> Iterator[Pair]:
    """Yield every pair; weights have about so many MB as float32.

    The first has `speed_megabytes`, and is what speed is measured on.
    """
    large = weights(np.random.default_rng(SEED), speed_megabytes)
    yield _fine_tune("fp32", large, lambda layers: layers, MOVED, 0.62)
    rng = np.random.default_rng(SEED)
    base = weights(rng, megabytes)
    for name, cast, part, goal in _CASTS:
        yield _fine_tune(name, base, cast, part, goal)
    tuned = moved(rng, base)
    yield Pair("int8 requantised", graph(_int8(base)), graph(_int8(tuned)), 0.95)
    yield Pair("head retrained", graph(base), graph(_head(rng, base)))
    yield Pair("one layer added", graph(base), graph(_layer_added(rng, base)))
    yield Pair("embedding rows appended", graph(base), graph(_rows_appended(rng, base)))
    yield Pair("rows appended, all tuned", graph(base), graph(_rows_appended(rng, tuned)), 0.62)
    yield Pair("renamed and reordered", graph(base), graph(_renamed(base)))
    yield Pair("renamed, reordered, tuned", graph(base), graph(_renamed(tuned)), 0.62)
    yield Pair("opset upgraded", *_opsets(base))
    yield Pair("external data, tuned", _raw(base), _raw(tuned), 0.62)
    yield Pair("safetensors fp32, tuned", save(base), save(tuned), 0.62)
    farther = _fp16(moved(rng, base, 0.01))
    yield Pair("safetensors fp16, tuned 1%", save(_fp16(base)), save(farther), 0.56)
    other = weights(np.random.default_rng(SEED + 1), megabytes)
    yield Pair("unrelated weights", graph(base), graph(other))
    yield Pair("trained on (real)", *_trained_on())
    yield from _files()


def _fine_tune(name: str, base: Weights, cast: Cast, part: float, goal: float | None) -> Pair:
    old, new = cast(base), cast(moved(np.random.default_rng(SEED + 1), base, part))
    least = sum(map(bound, old.values(), new.values()))
    return Pair(f"fine-tune {name}, {part:.1%}", graph(old), graph(new), goal, least)


def weights(rng: np.random.Generator, megabytes: float) -> Weights:
    """Return layers such as training leaves them: each with a deviation of its own."""
    width = int(math.sqrt(megabytes * 1e6 / 4 / 7) // 16 * 16)
    made = {"embedding.weight": rng.standard_normal((2 * width, width)) * 0.8}
    for number in range(5):
        scale = 1 / math.sqrt(width) * 2.0 ** rng.uniform(-1, 1)
        made[f"layers.{number}.weight"] = rng.standard_normal((width, width)) * scale
        made[f"layers.{number}.bias"] = rng.standard_normal(width) * 0.01
    made["head.weight"] = rng.standard_normal((width, 10)) / math.sqrt(width)
    return {name: array.astype(np.float32) for name, array in made.items()}


def moved(rng: np.random.Generator, base: Weights, part: float = MOVED) -> Weights:
    """Return the same layers after a fine-tune: every weight has moved a little."""
    return {
        name: (array + rng.standard_normal(array.shape) * array.std() * part).astype(np.float32)
        for name, array in base.items()
    }


def graph(layers: Weights, *, opset: int = 13) -> bytes:
    """Return an ONNX model that multiplies its way through these layers."""
    names = [name for name in layers if name.endswith("weight") and layers[name].ndim == 2]
    nodes, last = [], "x"
    for number, name in enumerate(names):
        nodes.append(
            helper.make_node("MatMul", [last, name], [f"m{number}"], name=f"/dense_{number}")
        )
        nodes.append(
            helper.make_node("Relu", [f"m{number}"], [f"h{number}"], name=f"/relu_{number}")
        )
        last = f"h{number}"
    made = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", layers[names[0]].shape[0]])],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["n", 10])],
        [_tensor(name, array) for name, array in layers.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return model.SerializeToString()


def _tensor(name: str, array: Array) -> TensorProto:
    if array.dtype == ml_dtypes.bfloat16:
        return helper.make_tensor(
            name, TensorProto.BFLOAT16, array.shape, array.tobytes(), raw=True
        )
    return numpy_helper.from_array(np.ascontiguousarray(array), name)


def _fp16(layers: Weights) -> Weights:
    return {name: array.astype(np.float16) for name, array in layers.items()}


def _bf16(layers: Weights) -> Weights:
    return {name: array.astype(ml_dtypes.bfloat16) for name, array in layers.items()}


_CASTS: tuple[tuple[str, Cast, float, float | None], ...] = (
    ("fp16", _fp16, 0.01, 0.56),
    ("bf16", _bf16, 0.03, 0.56),
    # So little that most of these round to the same number: bsdiff is good at that.
    ("fp16", _fp16, 0.001, None),
    ("bf16", _bf16, 0.001, None),
)


def bound(old: Array, new: Array) -> float:
    """Return the entropy in bytes of the new weights, given the exponents of the old ones.

    Steps between two weights are counted in units of the last place; of float32 their bit lengths
    are counted and the bits below taken whole.
    """
    bits = old.dtype.itemsize * 8
    exponent = {16: 7 if old.dtype == ml_dtypes.bfloat16 else 10, 32: 23}[bits]
    before, folded = _ordered(old, bits), steps(old, new)
    context = (before & ((1 << (bits - 1)) - 1)) >> exponent
    whole = bits == 16
    symbols = folded if whole else np.frexp(folded.astype(np.float64))[1].astype(np.int64)
    below = 0.0 if whole else float(np.maximum(symbols - 1, 0).sum())
    counted = [entropy(symbols[context == each]) for each in np.unique(context)]
    return (sum(counted) + below) / 8


def steps(old: Array, new: Array) -> NDArray[np.int64]:
    """Return from each weight to the next one the steps in units of the last place, zigzag."""
    bits = old.dtype.itemsize * 8
    step = _ordered(new, bits) - _ordered(old, bits)
    return (step << 1) ^ (step >> 63)


def _ordered(array: Array, bits: int) -> NDArray[np.int64]:
    """Return floats as whole numbers that rise as they do."""
    raw = array.reshape(-1).view({16: np.uint16, 32: np.uint32}[bits]).astype(np.int64)
    top = 1 << (bits - 1)
    return np.where(raw & top, (2 * top - 1) - raw, raw | top)


def entropy(symbols: NDArray[Any]) -> float:
    """Return the bits that these need together, each by its own frequency."""
    counts = np.unique(symbols, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


def _int8(layers: Weights) -> Weights:
    """Quantise each layer by its own largest value, as onnxruntime's quantizer does."""
    return {
        name: np.clip(np.rint(array / (np.abs(array).max() / 127)), -127, 127).astype(np.int8)
        for name, array in layers.items()
    }


def _head(rng: np.random.Generator, layers: Weights) -> Weights:
    shape = layers["head.weight"].shape
    return {**layers, "head.weight": (rng.standard_normal(shape) * 0.1).astype(np.float32)}


def _layer_added(rng: np.random.Generator, layers: Weights) -> Weights:
    made = dict(layers)
    head = made.pop("head.weight")
    width = head.shape[0]
    made["layers.5.weight"] = (rng.standard_normal((width, width)) * 0.05).astype(np.float32)
    return {**made, "head.weight": head}


def _rows_appended(rng: np.random.Generator, layers: Weights) -> Weights:
    old = layers["embedding.weight"]
    rows = (rng.standard_normal((old.shape[0] // 20, old.shape[1])) * 0.8).astype(np.float32)
    return {**layers, "embedding.weight": np.concatenate([old, rows])}


def _renamed(layers: Weights) -> Weights:
    """Return the layers as another exporter writes them: other names, another order."""
    order = list(layers)
    random.Random(SEED).shuffle(order)
    return {f"onnx::MatMul_{100 + n}.weight": layers[name] for n, name in enumerate(order)}


def _opsets(layers: Weights) -> tuple[bytes, bytes]:
    old = onnx.load_from_string(graph(layers, opset=11))
    return old.SerializeToString(), onnx.version_converter.convert_version(
        old, 20
    ).SerializeToString()


def _trained_on() -> tuple[bytes, bytes]:
    """Return a real network, and the same after two more passes over its data."""
    from skl2onnx import to_onnx  # noqa: PLC0415 - slow to import
    from sklearn.datasets import load_digits  # noqa: PLC0415
    from sklearn.neural_network import MLPClassifier  # noqa: PLC0415

    data, labels = load_digits(return_X_y=True)
    data = (data / 16).astype(np.float32)
    network = MLPClassifier((512, 512), max_iter=40, random_state=0, warm_start=True)
    made = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it could be trained further: it will be
        for passes in (40, 2):
            network.max_iter = passes
            network.fit(data, labels)
            made.append(to_onnx(network, data[:1]).SerializeToString())
    return made[0], made[1]


def _raw(layers: Weights) -> bytes:
    """Return an external-data file: tensors at multiples of 4096, and not a word about them."""
    out = bytearray()
    for array in layers.values():
        out += bytes(-len(out) % 4096) + array.tobytes()
    return bytes(out)


def _files() -> Iterator[Pair]:
    """Yield pairs that are no models: this project's own sources, edited."""
    old = _sources()
    new = _edited(old)
    yield Pair("text", b"".join(old.values()), b"".join(new.values()))
    yield Pair("tar of sources", _tar(old), _tar(new))
    yield Pair("wheel (zip)", _zip(old), _zip(new))
    yield Pair("machine code", *_libraries())
    yield Pair("tiny text", b"threshold = 0.5\n" * 20, b"threshold = 0.7\n" * 20)
    yield Pair("nothing changed", b"".join(old.values()), b"".join(old.values()))
    yield Pair("empty to something", b"", next(iter(new.values())))


def _sources() -> dict[str, bytes]:
    root = Path(__file__).resolve().parents[2]
    found = sorted(p for package in ("runtime", "cloud") for p in (root / package).rglob("*.py"))
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in found}


def _edited(old: dict[str, bytes]) -> dict[str, bytes]:
    """Return the sources as a month of work leaves them."""
    rng = random.Random(SEED)
    new = {}
    for name, content in old.items():
        if rng.random() < 0.05:
            continue
        lines = content.splitlines(keepends=True)
        for _ in range(rng.randrange(0, 8)):
            at = rng.randrange(len(lines) + 1)
            lines[at : at + rng.randrange(3)] = [
                f"    value_{rng.randrange(10**6)} = compute({rng.random()})\n".encode()
            ]
        renamed = name.replace("store", "depot")
        new[renamed] = (
            b"".join(lines).replace(b"blob", b"chunk") if rng.random() < 0.1 else b"".join(lines)
        )
    keys = list(new)
    rng.shuffle(keys)
    return {key: new[key] for key in keys}


def _tar(content: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in content.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def _zip(content: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(content.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _libraries() -> tuple[bytes, bytes]:
    """Return machine code before and after a function moved everything behind it by 112 bytes.

    Calls and jumps across that place change their distances, as in a library that was built again.
    """
    import zstandard.backend_c as library  # noqa: PLC0415 - any large extension module will do

    old = Path(library.__file__).read_bytes()
    at = len(old) // 3
    new = bytearray(old[:at] + bytes(range(112)) + old[at:])
    for place in range(0, at, 61):  # little-endian distances across the insertion
        value = int.from_bytes(new[place : place + 4], "little")
        new[place : place + 4] = ((value + 112) % 2**32).to_bytes(4, "little")
    return old, bytes(new)
