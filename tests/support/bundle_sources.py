"""Bundle directories with real, tiny ONNX models, as an author would lay them out."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 4


def write_model(path: Path, *, factor: float = 2.0, external: str | None = None) -> None:
    """Write a model that multiplies x (FP32, any by 4) into y; its weight lies in `external`."""
    weight = numpy_helper.from_array(np.full((WIDTH,), factor, np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "weight"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", WIDTH])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save_model(
        model,
        str(path),
        save_as_external_data=external is not None,
        location=external,
        size_threshold=0,
    )


def write_bundle(
    directory: Path,
    *,
    yaml: str = "name: scale\nkind: onnx\nmodel: model.onnx\n",
    factor: float = 2.0,
    external: str | None = None,
) -> Path:
    """Write a bundle without a check; return its directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "bundle.yaml").write_text(yaml)
    write_model(directory / "model.onnx", factor=factor, external=external)
    return directory


def write_checked_bundle(directory: Path, *, factor: float = 2.0) -> Path:
    """Write a bundle whose check passes; return its directory."""
    yaml = (
        "name: scale\nkind: onnx\nmodel: model.onnx\n"
        "check:\n  inputs: golden/inputs.npz\n  outputs: golden/outputs.npz\n"
    )
    write_bundle(directory, yaml=yaml, factor=factor)
    x = np.arange(2 * WIDTH, dtype=np.float32).reshape(2, WIDTH)
    (directory / "golden").mkdir(exist_ok=True)
    np.savez(directory / "golden" / "inputs.npz", x=x)
    np.savez(directory / "golden" / "outputs.npz", y=x * np.float32(factor))
    return directory
