"""tritonclient's four clients behind one face, so that one suite asks with each of them.

http   http.aio   grpc   grpc.aio
"""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Iterator
from typing import Any, Literal, get_args

from tritonclient import grpc, http
from tritonclient.grpc import aio as grpc_aio
from tritonclient.http import aio as http_aio
from tritonclient.utils import InferenceServerException

from runtime.inference.tensors import Array
from tests.support.inference_server import Ports

Kind = Literal["http", "http.aio", "grpc", "grpc.aio"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_MODULES: dict[Kind, Any] = {
    "http": http, "http.aio": http_aio, "grpc": grpc, "grpc.aio": grpc_aio,
}  # fmt: skip


class Triton:
    """A client. Methods of the library's own client are called by their names, and block."""

    def __init__(self, kind: Kind, ports: Ports, loop: asyncio.AbstractEventLoop) -> None:
        self.kind, self.is_http = kind, kind.startswith("http")
        self._module, self._loop = _MODULES[kind], loop
        self._client: Any = self._run(self._connect(ports))

    def ask(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Call a method of the client; messages are returned as plain values."""
        function = getattr(self._client, method)
        if not self.is_http and "as_json" in inspect.signature(function).parameters:
            more["as_json"] = True
        return self._run(self._call(function, *arguments, **more))

    def infer(
        self,
        model: str,
        inputs: dict[str, Array],
        *,
        outputs: list[str] | None = None,
        binary: bool = True,
        datatypes: dict[str, str] | None = None,
        **more: Any,
    ) -> Any:
        """Return the library's result. `binary` is for HTTP: gRPC is always."""
        asked = []
        for name, array in inputs.items():
            datatype = (datatypes or {}).get(name) or self._datatype(array)
            tensor = self._module.InferInput(name, list(array.shape), datatype)
            tensor.set_data_from_numpy(array, **({"binary_data": binary} if self.is_http else {}))
            asked.append(tensor)
        wanted = None
        if outputs is not None or (self.is_http and not binary):
            how = {"binary_data": binary} if self.is_http else {}
            wanted = [self._module.InferRequestedOutput(n, **how) for n in outputs or []] or None
        return self.ask("infer", model, asked, outputs=wanted, **more)

    def refusal(self, method: str, *arguments: Any, **more: Any) -> InferenceServerException:
        """Return the error that `infer` or another method ends with."""
        try:
            if method == "infer":
                self.infer(*arguments, **more)
            else:
                self.ask(method, *arguments, **more)
        except InferenceServerException as error:
            return error
        raise AssertionError(f"{method} was answered")

    def refused_or_false(self, method: str, *arguments: Any) -> bool:
        """Return what a question is answered with; an error is a no."""
        try:
            return bool(self.ask(method, *arguments))
        except InferenceServerException:
            return False

    def answer(self, result: Any) -> Any:
        """Return the answer's own fields: model_name, model_version, id."""
        said = result.get_response()
        if self.is_http:
            return said
        return {name: getattr(said, name) for name in ("model_name", "model_version", "id")}

    def close(self) -> None:
        """Let go of its connections."""
        self._run(self._call(self._client.close))

    def _datatype(self, array: Array) -> str:
        from tritonclient.utils import np_to_triton_dtype  # noqa: PLC0415 - beside its use

        return str(np_to_triton_dtype(array.dtype))

    async def _connect(self, ports: Ports) -> Any:
        url = f"127.0.0.1:{ports.http if self.is_http else ports.grpc}"
        return self._module.InferenceServerClient(url)

    async def _call(self, function: Any, *arguments: Any, **more: Any) -> Any:
        result = function(*arguments, **more)
        return await result if inspect.isawaitable(result) else result

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)


@contextlib.contextmanager
def client(kind: Kind, ports: Ports) -> Iterator[Triton]:
    """Connect with one of the four. It lives in a thread of its own, and so does its loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    triton = Triton(kind, ports, loop)
    try:
        yield triton
    finally:
        triton.close()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
