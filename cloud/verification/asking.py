"""A version's check over HTTP: its inputs go to a server by the Open Inference Protocol."""

import time
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


@dataclass(frozen=True)
class Server:
    """Where to ask."""

    url: str
    key: str | None = None
    revision: str | None = None
    """Which revision of a service shall answer, whatever its share of the traffic; None: any."""
    ca_pem: str | None = None


def verify(golden: Golden, server: Server, where: str, *, timeout_s: float) -> Finding:
    """Return whether a server answers the check as it must, and how fast.

    The latency is that of a client here, network and all; the check's p95_ms is about the model
    alone on its device, so it is told and not judged.
    """
    try:
        with _client(server, timeout_s) as client:
            outputs = ask(client, golden)
            if golden.outputs is not None:
                checks.compare(golden.check, golden.outputs, outputs)
            taken = _measure(client, golden)
    except LinkError as error:
        return Finding(where, ok=False, text=str(error), asked=False)
    except (ModelError, InvalidError) as error:
        return Finding(where, ok=False, text=str(error))
    return Finding(where, ok=True, text=f"p95 is {taken:.1f} ms, network and all")


def ask(client: httpx2.Client, golden: Golden) -> Arrays:
    """Return what the server answers to the check's inputs.

    Raises LinkError if it does not answer, ModelError for an error or an answer of another model.
    """
    path = f"/v2/models/{golden.model}/versions/{golden.version}/infer"
    body = {"inputs": [tensors.encode(name, array) for name, array in golden.inputs.items()]}
    try:
        answer = client.post(path, content=msgspec.json.encode(body))
    except httpx2.HTTPError as error:
        raise LinkError(f"{client.base_url}: it does not answer: {error}") from error
    if answer.status_code != httpx2.codes.OK:
        raise ModelError(f"{path}: HTTP {answer.status_code}: {answer.text[:300]}")
    return _read(path, answer.content)


def _client(server: Server, timeout_s: float) -> httpx2.Client:
    headers = {"content-type": "application/json"}
    if server.key is not None:
        headers["authorization"] = f"Bearer {server.key}"
    if server.revision is not None:
        headers["x-packhorse-revision"] = server.revision
    return httpx2.Client(base_url=server.url, headers=headers, timeout=timeout_s)


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


def _measure(client: httpx2.Client, golden: Golden) -> float:
    """Return the 95th percentile of the time until the answer, in milliseconds."""
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < RUNS and time.perf_counter() - started < BUDGET_S:
        before = time.perf_counter()
        ask(client, golden)
        taken.append((time.perf_counter() - before) * 1000)
    return float(np.percentile(taken, 95))
