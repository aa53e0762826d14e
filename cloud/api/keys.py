"""API keys: who may ask, and what. All of it is for admins: see cloud.registry.roles."""

from fastapi import APIRouter

from cloud import schema, shapes, tables
from cloud.api.dependencies import ActorDep, Cursor, Limit, ReadSession, ServicesDep, WriteSession
from cloud.api.routes import Route
from cloud.registry import apikeys
from cloud.registry.roles import Role

router = APIRouter(prefix="/keys", tags=["keys"], route_class=Route)


@router.post("", status_code=201)
def create(
    body: shapes.NewKey, session: WriteSession, services: ServicesDep, actor: ActorDep
) -> shapes.KeyMade:
    """Make a key; it is shown this once."""
    secret, row = apikeys.create(
        session, body.name, Role(body.role), actor=actor, now=services.clock.now()
    )
    return shapes.KeyMade(**_key(row).model_dump(), key=secret)


@router.get("")
def list_keys(
    session: ReadSession, cursor: Cursor = None, limit: Limit = 50
) -> schema.Page[shapes.Key]:
    """Return keys by name, revoked ones among them."""
    found = apikeys.page(session, after=cursor or "", limit=limit)
    following = found[-1].name if len(found) == limit else None
    return schema.Page(items=[_key(each) for each in found], next=following)


@router.post("/{name}/revoke")
def revoke(name: str, session: WriteSession, services: ServicesDep, actor: ActorDep) -> shapes.Key:
    """Have a key work no more. Doing it again changes nothing."""
    return _key(apikeys.revoke(session, name, actor=actor, now=services.clock.now()))


def _key(row: tables.ApiKey) -> shapes.Key:
    return shapes.Key(
        name=row.name, role=row.role, created_at=row.created_at, revoked_at=row.revoked_at
    )
