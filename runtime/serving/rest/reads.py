"""What a client may ask about, without asking a model: plain values, which become JSON."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import msgspec

from runtime.bundle.index import TensorSpec
from runtime.serving import metrics
from runtime.serving.dataplane import DataPlane
from runtime.serving.metrics import Histogram, Tally
from runtime.serving.rest.infer import packed
from runtime.serving.rest.known import Known
from runtime.serving.wire import answers
from runtime.serving.wire.answers import Answer
from runtime.serving.wire.bodies import Body

Handler = Callable[[Known, bytes | Body], Answer | Coroutine[Any, Any, Answer]]

EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics", "model_repository")
_NANOS = 1_000_000_000


class Reads:
    """Answers for what is here."""

    def __init__(self, plane: DataPlane) -> None:
        self._plane = plane
        self._metrics: Any = None

    @property
    def handlers(self) -> dict[str, Handler]:
        """Return who answers which kind of place."""
        plane = self._plane
        return {
            "server": lambda _known, _body: _json(server(plane)),
            "live": lambda _known, _body: _json({"live": plane.live}),
            "server_ready": self._server_ready,
            "model_ready": self._model_ready,
            "metadata": lambda known, _body: _json(plane.model_metadata(*_of(known))),
            "config": lambda known, _body: _json(config(plane, *_of(known))),
            "stats": self._stats,
            "metrics": self._scrape,
        }

    def _server_ready(self, _known: Known, _body: bytes | Body) -> Answer:
        ready = self._plane.ready
        return _json({"live": self._plane.live, "ready": ready}, 200 if ready else 503)

    def _model_ready(self, known: Known, _body: bytes | Body) -> Answer:
        name, version = _of(known)
        ready = self._plane.model_ready(name, version)
        return _json({"name": name, "ready": ready}, 200 if ready else 503)

    def _stats(self, known: Known, _body: bytes | Body) -> Answer:
        return _json(statistics(self._plane, known.place.name, known.place.version))

    async def _scrape(self, known: Known, _body: bytes | Body) -> Answer:
        # Beside the loop: the first scrape imports a library, and each adds up all numbers.
        field, body = await asyncio.to_thread(self._rendered)
        return await packed(known, Answer(200, field, body))

    def _rendered(self) -> tuple[bytes, bytes]:
        if self._metrics is None:
            self._metrics = metrics.registry(self._plane.meter)
        field = b"content-type: %b\r\n" % metrics.CONTENT_TYPE.encode()
        return field, metrics.render(self._metrics)


def server(plane: DataPlane) -> Any:
    """Say what this server is."""
    said = plane.metadata()
    return {"name": said.name, "version": said.version, "extensions": EXTENSIONS}


def config(plane: DataPlane, name: str, version: str | None) -> Any:
    """Say what a model takes and gives as Triton does, for clients that look there first.

    Shapes are whole, the batch's size included: that is what max_batch_size 0 means.
    """
    served = plane.find(name, version)
    return {
        "name": served.name,
        "platform": served.platform,
        "backend": served.platform.partition("_")[0],
        "max_batch_size": 0,
        "input": [_tensor(spec) for spec in served.signature.inputs],
        "output": [_tensor(spec) for spec in served.signature.outputs],
        "model_transaction_policy": {"decoupled": served.streams},
    }


def statistics(plane: DataPlane, name: str | None, version: str | None) -> Any:
    """Say what a model, or every model, was asked so far; raise UnknownModelError for none."""
    if name is None:
        keys = [(served.name, served.version) for served in plane.served]
    else:
        found = plane.find(name, version)
        versions = plane.versions(name) if version is None else (found.version,)
        keys = [(name, each) for each in versions]
    totals = plane.meter.totals()
    return {"model_stats": [_statistics(key, totals.get(key, Tally())) for key in keys]}


def _json(value: Any, code: int = 200) -> Answer:
    return answers.json(msgspec.json.encode(value), code)


def _of(known: Known) -> tuple[str, str | None]:
    return known.place.name or "", known.place.version


def _statistics(key: tuple[str, str], tally: Tally) -> Any:
    failed = sum(tally.errors.values())
    run = _duration(tally.run)
    return {
        "name": key[0],
        "version": key[1],
        "last_inference": 0,
        "inference_count": tally.requests - failed,
        "execution_count": run["count"],
        "inference_stats": {
            "success": {"count": tally.requests - failed, "ns": run["ns"]},
            "fail": {"count": failed, "ns": 0},
            "queue": _duration(tally.queue),
            "compute_input": _duration(tally.decode),
            "compute_infer": run,
            "compute_output": _duration(tally.encode),
        },
        "batch_stats": [],
    }


def _duration(histogram: Histogram) -> dict[str, int]:
    return {"count": sum(histogram.counts), "ns": round(histogram.total * _NANOS)}


def _tensor(spec: TensorSpec) -> Any:
    kind = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return {"name": spec.name, "data_type": f"TYPE_{kind}", "dims": spec.shape}
