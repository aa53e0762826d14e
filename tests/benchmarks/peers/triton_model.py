"""A model of Triton's Python backend that asks onnxruntime, one thread. Runs inside Triton."""

import json
from typing import Any

import onnxruntime
import triton_python_backend_utils as triton


class TritonPythonModel:
    """x to y."""

    def initialize(self, args: dict[str, Any]) -> None:
        """Load the file that the configuration names."""
        config = json.loads(args["model_config"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            config["parameters"]["file"]["string_value"], options,
            providers=["CPUExecutionProvider"],
        )  # fmt: skip

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer some requests."""
        answers = []
        for request in requests:
            x = triton.get_input_tensor_by_name(request, "x").as_numpy()
            y = self._session.run(["y"], {"x": x})[0]
            answers.append(triton.InferenceResponse([triton.Tensor("y", y)]))
        return answers
