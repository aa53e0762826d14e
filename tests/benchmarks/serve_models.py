"""What the servers serve, and what they are asked.

    tiny    MLP 16-32-4, 676 parameters: all of a request's cost is the server's
    image   the shape of MobileNetV2, 3,487,818 parameters: most of the cost is the model's
    middle  MLP 64-832-832-16, 3 MB: a third model to hold in memory

All have x FP32[N,…] to y FP32[N,…], weights from fixed seeds. A `Question` is one request in each
of the protocol's forms, with the answer that onnxruntime gives in process.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from tritonclient.grpc import service_pb2

from tests.support import models

Array = np.ndarray[Any, Any]

TINY, IMAGE, MIDDLE = "tiny", "image", "middle"
SHAPES: dict[str, tuple[int, ...]] = {TINY: (1, 16), IMAGE: (1, 3, 224, 224), MIDDLE: (1, 64)}
OUTPUTS = {TINY: 4, IMAGE: 1000, MIDDLE: 16}
IMAGE_PARAMETERS = 3_487_818
TOLERANCE = 1e-3
OPSET, IR = 17, 10
_BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
           (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
"""MobileNetV2's: expansion, channels, repeats, first stride."""


@dataclasses.dataclass(frozen=True)
class Question:
    """One request for one model, and its right answer."""

    model: str
    json: bytes
    binary: bytes
    """JSON header, then the tensor."""
    header_bytes: int
    grpc: bytes
    """A whole gRPC message, with its prefix."""
    answer: Array

    def accepts(self, got: Array) -> bool:
        """Tell whether an answer is right."""
        return got.size == self.answer.size and bool(
            np.allclose(got.reshape(-1), self.answer.reshape(-1), rtol=TOLERANCE, atol=TOLERANCE)
        )


def write(directory: Path) -> dict[str, Path]:
    """Write the models as directory/NAME.onnx; return their paths by name."""
    files = {TINY: models.mlp_model(), IMAGE: image_model(), MIDDLE: middle_model()}
    return {name: models.write(directory / f"{name}.onnx", files[name]) for name in files}


def write_batched(directory: Path, source: Path, name: str, max_size: int) -> Path:
    """Write a bundle of a model with dynamic batching on; return its directory."""
    models.write(directory / "model.onnx", source.read_bytes())
    (directory / "bundle.yaml").write_text(
        f"name: {name}\nkind: onnx\nmodel: model.onnx\nbatching: {{max_size: {max_size}}}\n"
    )
    return directory


def session(path: Path) -> onnxruntime.InferenceSession:
    """Load a model as every server here does: one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def question(name: str, path: Path, *, rows: int = 1) -> Question:
    """Return a request for a model, with its answer; `rows` of inputs."""
    shape = (rows, *SHAPES[name][1:])
    # Pixels, as a client sends them: four digits after the point.
    x = (np.random.default_rng(7).integers(0, 256, shape) / 255).round(4).astype(np.float32)
    data = [float(str(value)) for value in x.ravel()]  # not the float64 with its 17 digits
    tensor = {"name": "x", "datatype": "FP32", "shape": list(shape)}
    header = json.dumps({
        "inputs": [{**tensor, "parameters": {"binary_data_size": x.nbytes}}],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
    }).encode()  # fmt: skip
    message = service_pb2.ModelInferRequest(model_name=name)
    message.inputs.add(name="x", datatype="FP32", shape=shape)
    message.raw_input_contents.append(x.tobytes())
    sent = message.SerializeToString()
    return Question(
        model=name,
        json=msgspec.json.encode({"inputs": [{**tensor, "data": data}]}),
        binary=header + x.tobytes(),
        header_bytes=len(header),
        grpc=b"\0" + len(sent).to_bytes(4, "big") + sent,
        answer=session(path).run(["y"], {"x": x})[0],
    )


def decode_json(body: bytes) -> Array:
    """Return y of an answer in JSON."""
    answer = msgspec.json.decode(body)
    return np.array(next(o["data"] for o in answer["outputs"] if o["name"] == "y"), np.float32)


def decode_binary(body: bytes, headers: Mapping[str, str]) -> Array:
    """Return y of an answer with binary tensors."""
    size = int(headers["inference-header-content-length"])
    output = next(o for o in json.loads(body[:size])["outputs"] if o["name"] == "y")
    assert output["parameters"]["binary_data_size"] == len(body) - size
    return np.frombuffer(body, np.float32, offset=size)


def decode_grpc(message: bytes) -> Array:
    """Return y of an answer over gRPC, raw or typed."""
    answer = service_pb2.ModelInferResponse.FromString(message)
    if answer.raw_output_contents:
        return np.frombuffer(answer.raw_output_contents[0], np.float32)
    return np.array(answer.outputs[0].contents.fp32_contents, np.float32)


def middle_model() -> bytes:
    """Return an MLP of 3 MB."""
    rng = np.random.default_rng(11)
    graph = Graph(rng)
    top = "x"
    for number, (size, into) in enumerate(((64, 832), (832, 832), (832, 16))):
        w = graph.weight((size, into), math.sqrt(2 / size))
        b = graph.weight((into,), 0.01)
        top = graph.node("Gemm", [top, w, b])
        top = graph.node("Relu", [top]) if number < 2 else top
    return graph.finish(top, [16], [64])


def image_model() -> bytes:
    """Return a convolutional net of MobileNetV2's shape, batch normalisation folded in."""
    graph = Graph(np.random.default_rng(5))
    top, channels = graph.conv("x", 3, 32, size=3, stride=2), 32
    for expansion, out, repeats, first in _BLOCKS:
        for number in range(repeats):
            stride = first if number == 0 else 1
            wide = channels * expansion
            inner = graph.conv(top, channels, wide) if expansion > 1 else top
            inner = graph.conv(inner, wide, wide, size=3, stride=stride, group=wide)
            inner = graph.conv(inner, wide, out, bounded=False)
            keeps = stride == 1 and channels == out
            top, channels = (graph.node("Add", [top, inner]) if keeps else inner), out
    top = graph.conv(top, channels, 1280)
    top = graph.node("Flatten", [graph.node("GlobalAveragePool", [top])], axis=1)
    w, b = graph.weight((1280, 1000), math.sqrt(1 / 1280)), graph.weight((1000,), 0.01)
    assert graph.parameters + 2 == IMAGE_PARAMETERS  # and the bounds of ReLU6
    return graph.finish(graph.node("Gemm", [top, w, b]), [1000], [3, 224, 224])


class Graph:
    """An ONNX graph that grows."""

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw weights from `rng`."""
        self._rng = rng
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self.parameters = 0

    def weight(self, shape: tuple[int, ...], deviation: float) -> str:
        """Add weights; return their name."""
        name = f"w{len(self._weights)}"
        values = self._rng.standard_normal(shape, dtype=np.float32) * np.float32(deviation)
        self._weights.append(numpy_helper.from_array(values, name))
        self.parameters += values.size
        return name

    def node(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Add a node; return its output's name."""
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def conv(
        self, top: str, channels: int, out: int, *,
        size: int = 1, stride: int = 1, group: int = 1, bounded: bool = True,
    ) -> str:  # fmt: skip
        """Add a convolution, and ReLU6 if `bounded`; return its output's name."""
        fan = channels // group * size * size
        w = self.weight((out, channels // group, size, size), math.sqrt(2 / fan))
        b = self.weight((out,), 0.01)
        top = self.node(
            "Conv", [top, w, b], kernel_shape=[size, size], strides=[stride, stride],
            pads=[size // 2] * 4, group=group,
        )  # fmt: skip
        return self.node("Clip", [top, "zero", "six"]) if bounded else top

    def finish(self, top: str, out: list[int], shape: list[int]) -> bytes:
        """Return the file: x FP32[N,*shape] to y FP32[N,*out]."""
        self._nodes.append(helper.make_node("Identity", [top], ["y"]))
        bounds = [
            numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in (("zero", 0.0), ("six", 6.0))
            if any(name in node.input for node in self._nodes)
        ]
        graph = helper.make_graph(
            self._nodes,
            "bench",
            [models.tensor("x", TensorProto.FLOAT, ["N", *shape])],
            [models.tensor("y", TensorProto.FLOAT, ["N", *out])],
            [*self._weights, *bounds],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR
        onnx.checker.check_model(model)
        return bytes(model.SerializeToString())
