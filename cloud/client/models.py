"""Models and versions, by the client."""

from collections.abc import Iterator

from cloud import schema, shapes
from cloud.client.calls import Calls
from cloud.transport import path_of


class ModelCalls(Calls):
    """Models and their versions."""

    def models(self) -> Iterator[shapes.Model]:
        """Yield all models by name."""
        return self._transport.pages("/models", schema.Page[shapes.Model])

    def model(self, name: str) -> shapes.Model:
        """Return one model."""
        return self._transport.get(path_of("/models/{}", name), shapes.Model)

    def versions(self, name: str) -> Iterator[shapes.Version]:
        """Yield the versions of a model, oldest first."""
        return self._transport.pages(
            path_of("/models/{}/versions", name), schema.Page[shapes.Version]
        )

    def version(self, name: str, version: str = "latest") -> shapes.Version:
        """Return a version by number, or the newest."""
        return self._transport.get(path_of("/models/{}/versions/{}", name, version), shapes.Version)

    def index(self, name: str, version: str) -> bytes:
        """Return the bytes of a version's index."""
        return self._transport.call(
            "GET", path_of("/models/{}/versions/{}/index", name, version)
        ).content

    def register(self, name: str, index_bytes: bytes) -> shapes.Registered:
        """Register an index whose blobs are all uploaded. Twice gives the same version."""
        answer = self._transport.call(
            "POST",
            path_of("/models/{}/versions", name),
            again=True,
            content=index_bytes,
            headers={"Content-Type": "application/octet-stream"},
        )
        return shapes.Registered.model_validate_json(answer.content)
