"""Models and versions, by the client."""

from collections.abc import Iterator

from cloud import schema, shapes
from cloud.client.calls import Calls
from cloud.transport import path_of
from runtime import digests

DIFF_TIMEOUT_S = 90.0
"""The registry gives itself 60 s to compare, and a few to wait for its turn."""


class ModelCalls(Calls):
    """Models, their versions and aliases."""

    def models(self, query: str | None = None, sort: str | None = None) -> Iterator[shapes.Model]:
        """Yield models, all or those whose newest version fulfils a query; by name if not told."""
        return self._transport.pages("/models", schema.Page[shapes.Model], query=query, sort=sort)

    def model(self, name: str) -> shapes.Model:
        """Return one model."""
        return self._transport.get(path_of("/models/{}", name), shapes.Model)

    def search(self, query: str, sort: str | None = None) -> Iterator[shapes.Version]:
        """Yield the versions of any model that fulfil a query; by name and number if not told."""
        return self._transport.pages(
            "/versions", schema.Page[shapes.Version], query=query, sort=sort
        )

    def versions(self, name: str) -> Iterator[shapes.Version]:
        """Yield the versions of a model, oldest first."""
        return self._transport.pages(
            path_of("/models/{}/versions", name), schema.Page[shapes.Version]
        )

    def version(self, name: str, version: str = "latest") -> shapes.Version:
        """Return a version by number or alias, or the newest."""
        return self._transport.get(path_of("/models/{}/versions/{}", name, version), shapes.Version)

    def index(self, name: str, version: str) -> bytes:
        """Return the bytes of a version's index."""
        return self._transport.call(
            "GET", path_of("/models/{}/versions/{}/index", name, version)
        ).content

    def register(
        self, name: str, index_bytes: bytes, said: shapes.Statement | None = None
    ) -> shapes.Registered:
        """Register an index whose blobs are all uploaded. Twice gives the same version."""
        bundle = digests.of_bytes(index_bytes)
        self._transport.call("PUT", path_of("/blobs/{}", bundle), content=index_bytes)
        given = {} if said is None else said.model_dump(exclude_unset=True)
        answer = self._transport.call(
            "POST",
            path_of("/models/{}/versions", name),
            again=True,
            json={**given, "bundle": bundle},
        )
        return shapes.Registered.model_validate_json(answer.content)

    def update_model(self, name: str, changes: shapes.ModelChanges) -> shapes.Model:
        """Say something else of a model."""
        answer = self._transport.call(
            "PATCH",
            path_of("/models/{}", name),
            again=True,
            json=changes.model_dump(exclude_unset=True),
        )
        return shapes.Model.model_validate_json(answer.content)

    def update_version(
        self, name: str, version: str, changes: shapes.VersionChanges
    ) -> shapes.Version:
        """Say something else of a version."""
        answer = self._transport.call(
            "PATCH",
            path_of("/models/{}/versions/{}", name, version),
            again=True,
            json=changes.model_dump(exclude_unset=True),
        )
        return shapes.Version.model_validate_json(answer.content)

    def model_card(self, name: str, version: str | None = None) -> str:
        """Return the model card of a version, or of its model, as Markdown."""
        path = path_of("/models/{}/card", name)
        if version is not None:
            path = path_of("/models/{}/versions/{}/card", name, version)
        return self._transport.call("GET", path).text

    def lineage(self, name: str, version: str) -> shapes.Family:
        """Return where a version comes from, and what came from it."""
        path = path_of("/models/{}/versions/{}/lineage", name, version)
        return self._transport.get(path, shapes.Family)

    def diff(self, name: str, version: str, to: str) -> shapes.Diff:
        """Return what lies between a version and another, NAME:VERSION; it may take a minute."""
        path = path_of("/models/{}/versions/{}/diff", name, version)
        answer = self._transport.call("GET", path, params={"to": to}, timeout=DIFF_TIMEOUT_S)
        return shapes.Diff.model_validate_json(answer.content)

    def aliases(self, name: str) -> list[shapes.Alias]:
        """Return the aliases of a model, by name."""
        path = path_of("/models/{}/aliases", name)
        return self._transport.get(path, schema.Page[shapes.Alias]).items

    def set_alias(self, name: str, alias: str, version: str) -> shapes.Alias:
        """Have an alias mean a version: a number, "latest" or another alias."""
        wish = shapes.AliasTarget(version=version)
        path = path_of("/models/{}/aliases/{}", name, alias)
        answer = self._transport.call("PUT", path, json=wish.model_dump())
        return shapes.Alias.model_validate_json(answer.content)

    def remove_alias(self, name: str, alias: str) -> None:
        """Forget an alias."""
        self._transport.call("DELETE", path_of("/models/{}/aliases/{}", name, alias))

    def usage(self, name: str, version: str | None = None) -> shapes.Usage:
        """Return who needs a version, or any version of a model."""
        path = path_of("/models/{}/usage", name)
        if version is not None:
            path = path_of("/models/{}/versions/{}/usage", name, version)
        return self._transport.get(path, shapes.Usage)

    def delete(self, name: str, version: str | None = None) -> shapes.Deleted:
        """Forget a version, or a model with all its versions; refused while one is used."""
        path = path_of("/models/{}", name)
        if version is not None:
            path = path_of("/models/{}/versions/{}", name, version)
        return shapes.Deleted.model_validate_json(self._transport.call("DELETE", path).content)
