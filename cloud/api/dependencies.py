"""What routes are handed: services, a session, and who asks."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from sqlmodel import Session

from cloud.errors import ForbiddenError, KeyRefusedError
from cloud.registry import events, roles
from cloud.registry.roles import Role
from cloud.services import Services
from cloud.trust import keys
from cloud.trust.keys import Caller
from runtime.errors import InvalidError

MAX_PAGE = 200


def services(request: Request) -> Services:
    """Return what the application was made with."""
    found: Services = request.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


def _reading(services: ServicesDep) -> Iterator[Session]:
    with services.reading() as session:
        yield session


def _writing(request: Request, services: ServicesDep) -> Iterator[Session]:
    with services.transaction() as session:
        # The answer to a request with an Idempotency-Key is kept in the same transaction.
        request.state.write_session = session
        yield session


# scope="function": the commit comes before the answer, and its failure is the answer.
ReadSession = Annotated[Session, Depends(_reading, scope="function")]
WriteSession = Annotated[Session, Depends(_writing, scope="function")]


def caller(
    request: Request,
    services: ServicesDep,
    authorization: Annotated[str | None, Header()] = None,
) -> Caller:
    """Return who asks; raise KeyRefusedError without a good key, ForbiddenError if it may not."""
    found = identify(services, authorization)
    require(found, roles.for_request(request.method, request.url.path))
    return found


def identify(services: Services, authorization: str | None) -> Caller:
    """Return whose key this is; raise KeyRefusedError without a good one."""
    scheme, _space, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise KeyRefusedError("key: send 'Authorization: Bearer phk_...'")
    with services.reading() as session:
        return keys.authenticate(session, key.strip())


def require(found: Caller, needed: Role) -> None:
    """Raise ForbiddenError unless a caller has this role, or one that may do more."""
    if not found.role.covers(needed):
        raise ForbiddenError(found.name, found.role.value, needed.value)


CallerDep = Annotated[Caller, Depends(caller)]


def actor(found: CallerDep) -> str:
    """Return who asks, as the history names it."""
    return events.key_actor(found.name)


ActorDep = Annotated[str, Depends(actor)]
MAX_SEQUENCE = 2**31 - 1
"""What a numbered row's column holds."""
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=128)]


def sequence(cursor: str | None) -> int | None:
    """Return the number behind which a page of numbered rows begins; raises InvalidError."""
    if cursor is None:
        return None
    if not cursor.isascii() or not cursor.isdigit() or int(cursor) > MAX_SEQUENCE:
        raise InvalidError("cursor", cursor, "send the `next` of the page before")
    return int(cursor)
