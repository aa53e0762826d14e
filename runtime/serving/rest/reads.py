"""What a client may ask about, without asking a model: plain values, which become JSON."""

from typing import Any

from runtime.bundle.index import TensorSpec
from runtime.serving.dataplane import DataPlane
from runtime.serving.metrics import Histogram, Tally

EXTENSIONS = ("binary_tensor_data", "model_configuration", "statistics", "model_repository")
_NANOS = 1_000_000_000


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
