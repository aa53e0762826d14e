"""What a client may ask about, without asking a model: each function answers one method."""

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from runtime.bundle.index import TensorSpec
from runtime.errors import InvalidError
from runtime.serving.dataplane import DataPlane
from runtime.serving.metrics import Histogram, Tally
from runtime.serving.protos import open_inference_pb2 as pb

Request = TypeVar("Request")
Answer = Callable[[DataPlane, Any], Any]

_NANOS = 1_000_000_000
_Tensor = pb.ModelMetadataResponse.TensorMetadata


def parse(kind: Any, data: bytes) -> Any:
    """Return a message of that kind; raise InvalidError for bytes that are none."""
    try:
        return kind.FromString(data)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise InvalidError("request", data[:40], f"send a {name}: {error}") from error


def live(plane: DataPlane, _request: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
    """Say whether the process works."""
    return pb.ServerLiveResponse(live=plane.live)


def ready(plane: DataPlane, _request: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
    """Say whether new work is welcome."""
    return pb.ServerReadyResponse(ready=plane.ready)


def model_ready(plane: DataPlane, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
    """Say whether a model may be asked; raise UnknownModelError if there is none."""
    answer = plane.model_ready(request.name, request.version or None)
    return pb.ModelReadyResponse(ready=answer)


def metadata(plane: DataPlane, _request: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
    """Say what this server is."""
    said = plane.metadata()
    return pb.ServerMetadataResponse(
        name=said.name, version=said.version, extensions=said.extensions
    )


def model_metadata(plane: DataPlane, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
    """Say what a model takes and gives; raise UnknownModelError if there is none."""
    said = plane.model_metadata(request.name, request.version or None)
    return pb.ModelMetadataResponse(
        name=said.name,
        versions=said.versions,
        platform=said.platform,
        inputs=map(_tensor, said.inputs),
        outputs=map(_tensor, said.outputs),
    )


def config(plane: DataPlane, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
    """Say it once more, as those clients want it that look at a configuration first.

    Shapes are whole, the batch's size included: that is what max_batch_size 0 means.
    """
    served = plane.find(request.name, request.version or None)
    return pb.ModelConfigResponse(
        config=pb.ModelConfig(
            name=served.name,
            platform=served.platform,
            max_batch_size=0,
            backend=served.platform.partition("_")[0],
            input=[
                pb.ModelInput(name=spec.name, data_type=_data_type(spec), dims=spec.shape)
                for spec in served.signature.inputs
            ],
            output=[
                pb.ModelOutput(name=spec.name, data_type=_data_type(spec), dims=spec.shape)
                for spec in served.signature.outputs
            ],
            model_transaction_policy=pb.ModelTransactionPolicy(decoupled=served.streams),
        )
    )


def statistics(plane: DataPlane, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
    """Say what a model, or every model, was asked so far; raise UnknownModelError for none."""
    totals = plane.meter.totals()
    if request.name:
        served = plane.find(request.name, request.version or None)
        keys = [(served.name, served.version)]
        if not request.version:
            keys = [(request.name, version) for version in plane.versions(request.name)]
    else:
        keys = [(served.name, served.version) for served in plane.served]
    return pb.ModelStatisticsResponse(
        model_stats=[_statistics(key, totals.get(key, Tally())) for key in keys]
    )


def _statistics(key: tuple[str, str], tally: Tally) -> pb.ModelStatistics:
    failed = sum(tally.errors.values())
    run = _duration(tally.run)
    return pb.ModelStatistics(
        name=key[0],
        version=key[1],
        inference_count=tally.requests - failed,
        execution_count=run.count,
        inference_stats=pb.InferStatistics(
            success=pb.StatisticDuration(count=tally.requests - failed, ns=run.ns),
            fail=pb.StatisticDuration(count=failed),
            queue=_duration(tally.queue),
            compute_input=_duration(tally.decode),
            compute_infer=run,
            compute_output=_duration(tally.encode),
        ),
    )


def _duration(histogram: Histogram) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=sum(histogram.counts), ns=round(histogram.total * _NANOS))


def _tensor(spec: TensorSpec) -> _Tensor:
    return _Tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape)


def _data_type(spec: TensorSpec) -> Any:
    name = "STRING" if spec.datatype == "BYTES" else spec.datatype
    return pb.DataType.Value(f"TYPE_{name}")
