"""Aliases: names of versions that move."""

from typing import Annotated

from fastapi import APIRouter, Path

from cloud import schema, shapes, tables
from cloud.api import answers
from cloud.api.dependencies import ActorDep, ReadSession, ServicesDep, WriteSession
from cloud.api.preconditions import AnsweredDep, ShownDep, UnchangedDep
from cloud.api.routes import Route
from cloud.registry import aliases, models

router = APIRouter(prefix="/models/{name}/aliases", tags=["models"], route_class=Route)

Name = Annotated[str, Path(alias="alias", description="1 to 63 of a-z, 0-9 and '-'; no number")]


@router.get("")
def list_aliases(name: str, session: ReadSession) -> schema.Page[shapes.Alias]:
    """Return the aliases of a model, all of them."""
    return schema.Page(items=[answers.alias(row) for row in models.aliases(session, name)])


@router.get("/{alias}")
def get_alias(name: str, alias: Name, session: ReadSession, give: ShownDep) -> shapes.Alias:
    """Return one alias."""
    models.get(session, name)
    row = models.alias(session, name, alias)
    return give(answers.alias(row), row.revision)


@router.put("/{alias}")
def move(
    *,
    name: str,
    alias: Name,
    body: shapes.AliasTarget,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.Alias:
    """Have an alias mean this version from now on. Doing it again changes nothing."""
    now = services.clock.now()
    present = session.get(tables.Alias, (name, alias))
    unchanged(0 if present is None else present.revision)
    row = aliases.move(session, name, alias, body.version, actor=actor, now=now)
    return answered(answers.alias(row), row.revision)


@router.delete("/{alias}", status_code=204)
def remove(
    *,
    name: str,
    alias: Name,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
) -> None:
    """Forget an alias; the version stays."""
    models.get(session, name)
    unchanged(models.alias(session, name, alias).revision)
    aliases.remove(session, name, alias, actor=actor, now=services.clock.now())
