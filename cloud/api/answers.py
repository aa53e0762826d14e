"""Rows of models and versions as the API shows them."""

from typing import Any

from pydantic import BaseModel
from sqlmodel import Session

from cloud import shapes, tables
from cloud.registry import descriptions, lineage, models
from cloud.registry.deletion import Usage


def version(found: models.Detail) -> shapes.Version:
    """Return a version."""
    row = found.version
    return shapes.Version(
        model=row.model,
        version=row.number,
        bundle=row.bundle,
        kind=found.kind,
        size_bytes=found.size_bytes,
        created_at=row.created_at,
        created_by=row.created_by,
        updated_at=row.updated_at,
        description=row.description,
        tags=row.tags,
        metadata=row.meta,
        aliases=list(found.aliases),
        card=found.card,
        revision=row.revision,
    )


def version_of(session: Session, row: tables.Version) -> shapes.Version:
    """Return a version from its row."""
    return version(models.detail(session, row))


def model(found: models.Summary) -> shapes.Model:
    """Return a model."""
    row = found.model
    return shapes.Model(
        name=row.name,
        versions=found.versions,
        latest=None if found.latest is None else version(found.latest),
        aliases=found.aliases,
        created_at=row.created_at,
        updated_at=row.updated_at,
        description=row.description,
        tags=row.tags,
        metadata=row.meta,
        card=found.card,
        revision=row.revision,
    )


def alias(row: tables.Alias) -> shapes.Alias:
    """Return an alias."""
    return shapes.Alias(
        model=row.model,
        name=row.name,
        version=row.version,
        moved_at=row.moved_at,
        moved_by=row.moved_by,
        revision=row.revision,
    )


def usage(found: Usage) -> shapes.Usage:
    """Return who needs something."""
    users = [
        shapes.User(kind=each.kind, id=each.id, name=each.name, version=each.version)
        for each in found.users
    ]
    return shapes.Usage(users=users, running=list(found.running))


def origin(row: tables.Lineage | None) -> shapes.Origin | None:
    """Return where a version comes from; None: nothing was said."""
    if row is None:
        return None
    return shapes.Origin(
        run=row.run,
        code=row.code,
        data=row.data,
        parent=None if row.parent_model is None else f"{row.parent_model}:{row.parent_version}",
        trained_by=row.trained_by,
        trained_at=row.trained_at,
        extra=row.extra,
        recorded_at=row.recorded_at,
        recorded_by=row.recorded_by,
    )


def family(row: tables.Version, found: lineage.Family) -> shapes.Family:
    """Return the family tree of a version."""
    relatives = [
        shapes.Relative(
            model=node.model,
            version=node.version,
            depth=node.depth,
            present=node.present,
            lineage=origin(node.lineage),
        )
        for node in found.nodes
    ]
    return shapes.Family(
        model=row.model,
        version=row.number,
        registered_at=row.created_at,
        registered_by=row.created_by,
        lineage=next(each.lineage for each in relatives if each.depth == 0),
        relatives=relatives,
        truncated=found.truncated,
    )


def changes(body: BaseModel) -> descriptions.Changes:
    """Return what a request says of a model or version: null removes, what is not given stays."""
    given: dict[str, Any] = body.model_dump(
        exclude_unset=True, include={"description", "tags", "metadata", "card"}
    )
    return descriptions.Changes(
        description=given["description"] or "" if "description" in given else None,
        tags=given.get("tags") or {},
        metadata=given.get("metadata") or {},
        card=given["card"] or "" if "card" in given else None,
    )


def lineage_changes(body: shapes.LineageChanges | None) -> dict[str, Any]:
    """Return what a request says of a version's lineage; nothing for None."""
    return {} if body is None else body.model_dump(exclude_unset=True)
