"""What a client may ask about, without asking a model: each function answers one method.

The facts are those of the HTTP side (runtime.serving.rest.reads), whose plain values have the names
that the messages have.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from runtime.bundle.index import TensorSpec
from runtime.errors import InvalidError
from runtime.serving.dataplane import DataPlane
from runtime.serving.errors import UnknownModelError
from runtime.serving.protos import health_pb2
from runtime.serving.protos import open_inference_pb2 as pb
from runtime.serving.rest import reads

SERVICE = "inference.GRPCInferenceService"
Answer = Callable[[DataPlane, Any], Any]

Filled = TypeVar("Filled", bound=Message)
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
    return _message(pb.ServerMetadataResponse(), reads.server(plane))


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
    """Say it once more, as those clients want it that look at a configuration first."""
    said = reads.config(plane, request.name, request.version or None)
    return _message(pb.ModelConfigResponse(), {"config": said})


def statistics(plane: DataPlane, request: pb.ModelStatisticsRequest) -> pb.ModelStatisticsResponse:
    """Say what a model, or every model, was asked so far; raise UnknownModelError for none."""
    said = reads.statistics(plane, request.name or None, request.version or None)
    return _message(pb.ModelStatisticsResponse(), said)


def health(
    plane: DataPlane, request: health_pb2.HealthCheckRequest
) -> health_pb2.HealthCheckResponse:
    """Say whether new work is welcome, to those who ask every server in the same way.

    It needs no key, so it tells nothing of models; raise UnknownModelError for what is no service.
    """
    if request.service not in {"", SERVICE}:
        raise UnknownModelError(request.service, None, [SERVICE])
    return health_pb2.HealthCheckResponse(status="SERVING" if plane.ready else "NOT_SERVING")


def _message(empty: Filled, values: Any) -> Filled:
    """Return a message filled from plain values; those that it has no field for are left out."""
    from google.protobuf import json_format  # noqa: PLC0415 - asked for seldom, slow to import

    json_format.ParseDict(values, empty, ignore_unknown_fields=True)
    return empty


def _tensor(spec: TensorSpec) -> _Tensor:
    return _Tensor(name=spec.name, datatype=spec.datatype, shape=spec.shape)
