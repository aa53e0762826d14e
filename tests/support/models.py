"""Tiny real ONNX models, made here, and bundle directories that hold them.

Each `…_model` returns the bytes of a model file; `install` lays a bundle out as a worker finds it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from runtime import digests, files
from runtime.bundle import index as bundle_index
from runtime.bundle.index import Check, FileEntry, Index, Resources
from runtime.inference.session import Session

Shape = Sequence[int | str | None]


def linear_model(inputs: int = 4, outputs: int = 3, *, factor: float = 1.0) -> bytes:
    """Take x FP32[-1, inputs] to y FP32[-1, outputs]: factor times the sum of the row."""
    weights = np.full((inputs, outputs), factor, dtype=np.float32)
    return made(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["N", inputs])],
        [tensor("y", TensorProto.FLOAT, ["N", outputs])],
        {"w": weights},
    )


def mlp_model(*, seed: int = 0) -> bytes:
    """Take x FP32[-1, 16] to y FP32[-1, 4] through 32 hidden units: `tiny` of our measurements."""
    rng = np.random.default_rng(seed)
    return made(
        [
            helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("Gemm", ["r", "w2", "b2"], ["y"]),
        ],
        [tensor("x", TensorProto.FLOAT, ["N", 16])],
        [tensor("y", TensorProto.FLOAT, ["N", 4])],
        {
            "w1": rng.standard_normal((16, 32), dtype=np.float32),
            "b1": rng.standard_normal(32, dtype=np.float32),
            "w2": rng.standard_normal((32, 4), dtype=np.float32),
            "b2": rng.standard_normal(4, dtype=np.float32),
        },
    )


def two_input_model() -> bytes:
    """Take a, b FP32[-1, 1] to sum FP32[-1, 1] and product FP32[-1, 1]."""
    shape = ["N", 1]
    return made(
        [
            helper.make_node("Add", ["a", "b"], ["sum"]),
            helper.make_node("Mul", ["a", "b"], ["product"]),
        ],
        [tensor("a", TensorProto.FLOAT, shape), tensor("b", TensorProto.FLOAT, shape)],
        [tensor("sum", TensorProto.FLOAT, shape), tensor("product", TensorProto.FLOAT, shape)],
    )


def classifier_model(labels: Sequence[str] = ("cat", "dog", "owl")) -> bytes:
    """Take x FP32[-1, n] to label BYTES[-1] and probabilities FP32[-1, n], as skl2onnx gives them.

    The label is that of the largest input.
    """
    size = len(labels)
    names = np.array(labels, dtype=np.object_)
    return made(
        [
            helper.make_node("Softmax", ["x"], ["probabilities"], axis=1),
            helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=0),
            helper.make_node("Gather", ["names", "best"], ["label"]),
        ],
        [tensor("x", TensorProto.FLOAT, ["N", size])],
        [
            tensor("label", TensorProto.STRING, ["N"]),
            tensor("probabilities", TensorProto.FLOAT, ["N", size]),
        ],
        {"names": names},
    )


def image_model(height: int = 8, width: int = 8, *, channels: int = 3) -> bytes:
    """Take image FP32[-1, channels, height, width] to mean FP32[-1, channels]."""
    return made(
        [helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0)],
        [tensor("image", TensorProto.FLOAT, ["N", channels, height, width])],
        [tensor("mean", TensorProto.FLOAT, ["N", channels])],
        opset=17,
    )


def slow_model(size: int = 1500, *, rounds: int = 8) -> bytes:
    """Take x FP32[1, size] to y FP32[1, size] by way of `rounds` large products."""
    rng = np.random.default_rng(0)
    square = (rng.standard_normal((size, size)) / size).astype(np.float32)
    nodes = [helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0])]
    nodes.append(helper.make_node("Mul", ["w", "xt"], ["m0"]))
    nodes += [helper.make_node("MatMul", [f"m{n}", "w"], [f"m{n + 1}"]) for n in range(rounds)]
    nodes.append(helper.make_node("MatMul", ["x", f"m{rounds}"], ["y"]))
    return made(
        nodes,
        [tensor("x", TensorProto.FLOAT, [1, size])],
        [tensor("y", TensorProto.FLOAT, [1, size])],
        {"w": square},
    )


def identity_model(element: int, shape: Shape = ("N", 2)) -> bytes:
    """Take x to y, both of this ONNX element type and shape."""
    return made(
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", element, shape)],
        [tensor("y", element, shape)],
    )


def reshape_model() -> bytes:
    """Take x FP32[-1, 4] to y FP32[-1, 3]: loads, and fails at run time on a batch of one."""
    return made(
        [helper.make_node("Reshape", ["x", "shape"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["N", 4])],
        [tensor("y", TensorProto.FLOAT, ["M", 3])],
        {"shape": np.array([-1, 3], dtype=np.int64)},
    )


def sequence_model() -> bytes:
    """Take x FP32[-1, 2] to a sequence, which the protocol cannot carry."""
    output = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, ["N", 2])
    return made(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        [tensor("x", TensorProto.FLOAT, ["N", 2])],
        [output],
    )


def tensor(name: str, element: int, shape: Shape) -> Any:
    """Return one input or output of a graph; a name or None for a size that may be any."""
    return helper.make_tensor_value_info(name, element, list(shape))


def write(path: Path, model: bytes) -> Path:
    """Write a model file; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model)
    return path


def install(
    directory: Path,
    model: bytes,
    *,
    name: str = "model",
    entry: str | None = None,
    check: Check | None = None,
    extra: dict[str, bytes] | None = None,
    memory_mb: int | None = None,
    sources: tuple[str, ...] = (),
) -> Index:
    """Lay a bundle out in `directory` as a device does, with its `.index.json`; return its index.

    `entry` is the text of an entry script; `extra` maps further paths to their bytes.
    """
    contents = {"model.onnx": model, **(extra or {})}
    if entry is not None:
        contents["entry.py"] = entry.encode()
    for path, data in contents.items():
        write(directory / path, data)
    index = Index(
        format=bundle_index.FORMAT,
        name=name,
        kind="onnx",
        model="model.onnx",
        files=tuple(
            FileEntry(path=path, size=len(data), sha256=digests.of_bytes(data))
            for path, data in sorted(contents.items())
        ),
        signature=Session(directory / "model.onnx").signature,
        entry=None if entry is None else "entry.py",
        check=check,
        resources=Resources(memory_mb=memory_mb),
        sources=sources,
    )
    files.write_atomic(directory / ".index.json", bundle_index.encode(index))
    return index


def made(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: dict[str, Any] | None = None,
    *,
    opset: int = 17,
) -> bytes:
    """Return the bytes of a model with these nodes, and its constants by name."""
    graph = helper.make_graph(
        nodes,
        "graph",
        inputs,
        outputs,
        [numpy_helper.from_array(value, name) for name, value in (constants or {}).items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())
