"""What routes are handed: services, a session, and who asks."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import Depends, Header, Query, Request
from sqlmodel import Session

from cloud.errors import KeyRefusedError
from cloud.registry import events
from cloud.services import Services
from cloud.trust import keys

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


def actor(services: ServicesDep, authorization: Annotated[str | None, Header()] = None) -> str:
    """Return who asks; raise KeyRefusedError without a good key."""
    scheme, _space, key = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not key:
        raise KeyRefusedError("key: send 'Authorization: Bearer phk_...'")
    with services.reading() as session:
        return events.key_actor(keys.authenticate(session, key.strip()))


ActorDep = Annotated[str, Depends(actor)]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE)]
Cursor = Annotated[str | None, Query(max_length=128)]
