"""Small networks as files, before and after what training, exporting and editing does to them."""

import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from runtime.bundle.delta.plan import Change, Copy, ElementType, Segment, TensorExtent

Array = npt.NDArray[np.float32]
Weights = dict[str, Array]
Bytes = npt.NDArray[np.uint8]


def weights(seed: int = 0, *, layers: int = 3, width: int = 64) -> Weights:
    """Return layers of this width, and an embedding of twice as many rows."""
    rng = np.random.default_rng(seed)
    made = {"embedding": rng.normal(0, 0.8, (2 * width, width))}
    for number in range(layers):
        made[f"layers.{number}.weight"] = rng.normal(0, 0.1 * (number + 1), (width, width))
        made[f"layers.{number}.bias"] = rng.normal(0, 0.01, width)
    return {name: array.astype(np.float32) for name, array in made.items()}


def tuned(base: Weights, *, seed: int = 1) -> Weights:
    """Return the same layers with every weight moved by a thousandth of its layer's deviation."""
    rng = np.random.default_rng(seed)
    return {
        name: (array + rng.normal(0, 0.001, array.shape) * array.std()).astype(np.float32)
        for name, array in base.items()
    }


def onnx_file(layers: Weights, *, opset: int = 13, nodes: Sequence[str] = ()) -> bytes:
    """Return an ONNX file with these initializers, and Relu nodes of these names in front."""
    relus = [helper.make_node("Relu", ["x"], [name], name=name) for name in nodes]
    uses = [
        helper.make_node("MatMul", ["x", name], [f"y{number}"], name=f"/use_{number}")
        for number, name in enumerate(layers)
    ]
    graph = helper.make_graph(
        [*relus, *uses],
        "network",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 64])],
        [helper.make_tensor_value_info("y0", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.ascontiguousarray(a), name) for name, a in layers.items()],
    )
    imports = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def raw_file(layers: Weights) -> bytes:
    """Return the weights one after the other and not a word about them."""
    return b"".join(array.tobytes() for array in layers.values())


def placed(layers: Weights) -> tuple[TensorExtent, ...]:
    """Return where the tensors of a raw file lie."""
    ends = np.cumsum([array.nbytes for array in layers.values()]).tolist()
    return tuple(
        TensorExtent(name, ElementType.FP32, array.shape, end - array.nbytes, array.nbytes)
        for (name, array), end in zip(layers.items(), ends, strict=True)
    )


def safetensors_file(layers: Weights) -> bytes:
    """Return a safetensors file."""
    header: dict[str, object] = {"__metadata__": {"format": "pt", "shape": "no tensor"}}
    at = 0
    for name, array in layers.items():
        offsets = [at, at + array.nbytes]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        at += array.nbytes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + raw_file(layers)


def as_bytes(data: bytes) -> Bytes:
    """Return a file's bytes as the planner takes them."""
    return np.frombuffer(data, np.uint8)


def followed(plan: Sequence[Segment], old: bytes, new: bytes) -> bytes:
    """Return what a plan makes of the old file; changed and fresh bytes are the new file's.

    An IndexError or a short result means that the plan does not cover just the new file.
    """
    made = bytearray()
    for segment in plan:
        if isinstance(segment, Copy | Change) and not 0 <= segment.old_offset <= len(old):
            raise IndexError(segment)
        copied = isinstance(segment, Copy)
        start = segment.old_offset if copied else len(made)
        made += (old if copied else new)[start : start + segment.length]
    return bytes(made)
