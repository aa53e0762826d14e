"""KServe's server with models that ask onnxruntime, one thread. Runs in KServe's own environment.

Arguments: --model_files NAME=FILE…, then KServe's own.
"""

import argparse
import uuid
from typing import Any

import onnxruntime
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer, model_server


class OnnxModel(Model):  # type: ignore[misc] # untyped base
    """x to y."""

    def __init__(self, name: str, path: str) -> None:
        """Load a file."""
        super().__init__(name)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session: Any = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.ready = True

    async def predict(self, payload: InferRequest, *_: Any, **__: Any) -> InferResponse:
        """Answer one request."""
        y = self._session.run(["y"], {"x": payload.inputs[0].as_numpy()})[0]
        output = InferOutput(name="y", shape=list(y.shape), datatype="FP32")
        binary = bool(payload.request_outputs) or payload.from_grpc
        output.set_data_from_numpy(y, binary_data=binary)
        # Without an id in its answers it says 500.
        return InferResponse(
            response_id=payload.id or str(uuid.uuid4()), model_name=self.name,
            infer_outputs=[output],
        )  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[model_server.parser], conflict_handler="resolve")
    parser.add_argument("--model_files", nargs="+", required=True)
    chosen, _ = parser.parse_known_args()
    pairs = [pair.split("=", 1) for pair in chosen.model_files]
    ModelServer(
        http_port=chosen.http_port, grpc_port=chosen.grpc_port, workers=1, enable_grpc=True
    ).start([OnnxModel(name, path) for name, path in pairs])
