"""Logins to image registries: who devices are there."""

from typing import Annotated

from fastapi import APIRouter, Query

from cloud import schema, shapes, tables
from cloud.api.dependencies import ActorDep, Limit, ReadSession, ServicesDep, WriteSession
from cloud.api.preconditions import AnsweredDep, UnchangedDep
from cloud.api.routes import Route
from cloud.registry import desired, imagelogins
from runtime.imagelogins import Login

router = APIRouter(prefix="/image-logins", tags=["image logins"], route_class=Route)

MAX_ID = (1 << 31) - 1
Cursor = Annotated[int, Query(ge=0, le=MAX_ID)]


@router.post("", status_code=201)
def keep(
    body: shapes.NewImageLogin,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    answered: AnsweredDep,
) -> shapes.ImageLogin:
    """Keep a login for the devices of a selector, in place of the one that they had by it."""
    now = services.clock.now()
    login = Login(body.username, body.password.get_secret_value())
    row = imagelogins.keep(session, body.registry, body.selector, login, actor=actor, now=now)
    desired.recompute(session, now=now)
    return answered(_shown(row), row.revision)


@router.get("")
def list_image_logins(
    session: ReadSession, cursor: Cursor = 0, limit: Limit = 50
) -> schema.Page[shapes.ImageLogin]:
    """Return logins by id, without their passwords."""
    found = imagelogins.page(session, after=cursor, limit=limit)
    following = str(found[-1].id) if len(found) == limit else None
    return schema.Page(items=[_shown(row) for row in found], next=following)


@router.delete("/{login}", status_code=204)
def remove(
    login: int,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
) -> None:
    """Forget a login; the devices that have it forget it too."""
    row = imagelogins.get(session, login)
    unchanged(row.revision)
    now = services.clock.now()
    imagelogins.remove(session, row, actor=actor, now=now)
    desired.recompute(session, now=now)


def _shown(row: tables.ImageLogin) -> shapes.ImageLogin:
    return shapes.ImageLogin.model_validate(
        {"registry": row.host, **row.model_dump(exclude={"host", "password", "revision"})}
    )
