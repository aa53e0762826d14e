"""What a client may change: which models of a repository are served."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from runtime.errors import InvalidError, ModelError
from runtime.serving.dataplane import DataPlane
from runtime.serving.protos import open_inference_pb2 as pb
from runtime.serving.repository import Repository

READY = "READY"


Change = Callable[[Repository, Any], Awaitable[Any]]


def index(
    plane: DataPlane, repository: Repository | None, request: pb.RepositoryIndexRequest
) -> pb.RepositoryIndexResponse:
    """List what can be asked, and what could be if it were loaded."""
    entry = pb.RepositoryIndexResponse.ModelIndex
    if repository is None:
        entries = [entry(name=s.name, version=s.version, state=READY) for s in plane.served]
    else:
        entries = [
            entry(name=e.name, version=e.version, state=e.state, reason=e.reason)
            for e in repository.index()
            if not request.ready or e.state == READY
        ]
    return pb.RepositoryIndexResponse(models=entries)


async def load(
    repository: Repository, request: pb.RepositoryModelLoadRequest
) -> pb.RepositoryModelLoadResponse:
    """Serve a model of the repository, as it lies there."""
    _require_plain(request.parameters, ())
    try:
        await repository.load(request.model_name)
    except OSError as error:
        raise ModelError(f"{request.model_name}: {error}") from error
    return pb.RepositoryModelLoadResponse()


async def unload(
    repository: Repository, request: pb.RepositoryModelUnloadRequest
) -> pb.RepositoryModelUnloadResponse:
    """Serve a model no longer."""
    _require_plain(request.parameters, ("unload_dependents",))
    await repository.unload(request.model_name)
    return pb.RepositoryModelUnloadResponse()


def _require_plain(parameters: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise InvalidError for a parameter that would be passed over."""
    for name in parameters:
        if name not in known:
            raise InvalidError("parameters", name, "a bundle says itself how it is run: leave it")
