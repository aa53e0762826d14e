"""A version's check over HTTP: its inputs go to a server by the Open Inference Protocol."""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import msgspec
import numpy as np

from cloud.verification.findings import Finding
from cloud.verification.golden import Golden
from runtime.errors import InvalidError, LinkError, ModelError
from runtime.inference import check as checks
from runtime.inference import tensors
from runtime.inference.tensors import Arrays

RUNS = 20
"""How often the inputs are sent for the latency; fewer once BUDGET_S is used up."""
BUDGET_S = 5.0
_OK = 200
_NOT_NOW = frozenset({401, 429, 502, 503, 504})
"""Answers that say nothing of the model: the gateway does not let in, or reaches nobody."""

Ask = Callable[[str, bytes], tuple[int, bytes]]
"""Posts JSON to a path; returns status and body, or raises LinkError if nobody answers."""


@dataclass(frozen=True)
class Server:
    """Where to ask."""

    url: str
    key: str | None = None
    revision: str | None = None
    """Which revision of a service shall answer, whatever its share of the traffic; None: any."""
    ca_pem: str | None = None


def verify(golden: Golden, ask: Ask, where: str) -> Finding:
    """Return whether a server answers the check as it must, and how fast.

    The latency is that of whoever asks, network and all; the check's p95_ms is about the model
    alone on its device, so it is told and not judged.
    """
    path = f"/v2/models/{golden.model}/versions/{golden.version}/infer"
    inputs = [tensors.encode(name, array) for name, array in golden.inputs.items()]
    body = msgspec.json.encode({"inputs": inputs})
    try:
        outputs = _outputs(ask, path, body)
        if golden.outputs is not None:
            checks.compare(golden.check, golden.outputs, outputs)
        taken = _measure(lambda: _outputs(ask, path, body))
    except LinkError as error:
        return Finding(where, ok=False, text=str(error), asked=False)
    except (ModelError, InvalidError) as error:
        return Finding(where, ok=False, text=str(error))
    return Finding(where, ok=True, text=f"p95 is {taken:.1f} ms, network and all")


@contextlib.contextmanager
def from_here(server: Server, *, timeout_s: float) -> Iterator[Ask]:
    """Give what asks a server directly."""
    headers = {"content-type": "application/json"}
    if server.key is not None:
        headers["authorization"] = f"Bearer {server.key}"
    if server.revision is not None:
        headers["x-packhorse-revision"] = server.revision
    with httpx2.Client(base_url=server.url, headers=headers, timeout=timeout_s) as client:

        def ask(path: str, body: bytes) -> tuple[int, bytes]:
            try:
                answer = client.post(path, content=body)
            except httpx2.HTTPError as error:
                raise LinkError(f"{server.url}: it does not answer: {error}") from error
            return answer.status_code, answer.content

        yield ask


def _outputs(ask: Ask, path: str, body: bytes) -> Arrays:
    """Return what the server answers.

    Raises LinkError if it does not answer, ModelError for an error or an answer of another model.
    """
    status, content = ask(path, body)
    if status != _OK:
        told = content[:300].decode("utf-8", "replace")
        kind = LinkError if status in _NOT_NOW else ModelError
        raise kind(f"{path}: HTTP {status}: {told}")
    return _read(path, content)


def _read(path: str, content: bytes) -> Arrays:
    try:
        plain: dict[str, Any] = msgspec.json.decode(content)
        return {
            each["name"]: tensors.from_values(each["name"], each["data"], each["datatype"]).reshape(
                each["shape"]
            )
            for each in plain["outputs"]
        }
    except (msgspec.DecodeError, InvalidError, KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path}: the answer is none of the protocol's: {error}") from error


def _measure(ask: Callable[[], object]) -> float:
    """Return the 95th percentile of the time until the answer, in milliseconds."""
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < RUNS and time.perf_counter() - started < BUDGET_S:
        before = time.perf_counter()
        ask()
        taken.append((time.perf_counter() - before) * 1000)
    return float(np.percentile(taken, 95))
