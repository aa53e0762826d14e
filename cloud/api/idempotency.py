"""Idempotency-Key: a POST that may be sent again, whatever was lost on the way.

With the header, a request is done once within 24 hours: whoever sends it again with the same key
gets the answer that was given. The row that says so is written in the transaction of the effect
(the session of `dependencies.WriteSession`), so no crash can leave one without the other.

- Kept is what was done: answers from 200 to 299. A refusal changed nothing, so the same request
  with the same key is simply tried anew.
- Answers are sealed with a key made of the registry's own and of the client's Idempotency-Key, of
  which the row holds a hash. So tokens and secrets that are "shown once" are shown again to whoever
  repeats the request that made them, with its API key; and to nobody who has the database.
- A second request while the first is under way gets 409, retryable; another request with the same
  key 422.

Uploads of bytes need none: they are named by their digest. Enrolment has its own (the token).
"""

import hashlib
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from anyio import to_thread
from fastapi import Request, Response
from sqlalchemy import delete
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from cloud import tables
from cloud.api import dependencies
from cloud.errors import AnswerLostError, InFlightError, KeyReusedError
from cloud.registry import events
from cloud.services import Services
from runtime.errors import InvalidError

HEADER = "Idempotency-Key"
MAX_KEY_CHARS = 255
KEPT_S = 86400.0
KEPT_BODY_BYTES = 256 * 1024
MAX_HASHED_BYTES = 8 << 20
KEPT_HEADERS = ("content-type", "etag", "location")
_FORGOTTEN_TOGETHER = 100
_GOOD = range(200, 300)

Handler = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class _Claim:
    """One request with a key."""

    actor: str
    key: str
    fingerprint: str

    @property
    def key_sha256(self) -> str:
        return hashlib.sha256(self.key.encode()).hexdigest()

    @property
    def purpose(self) -> str:
        return f"answer:{self.actor}:{self.key}"


@dataclass
class InFlight:
    """Which keys are being worked on in this process."""

    _lock: threading.Lock = field(default_factory=threading.Lock)
    _held: set[tuple[str, str]] = field(default_factory=set)

    def take(self, claim: _Claim) -> None:
        """Hold a key; raise InFlightError if it is held."""
        with self._lock:
            if (claim.actor, claim.key_sha256) in self._held:
                raise _under_way()
            self._held.add((claim.actor, claim.key_sha256))

    def give_back(self, claim: _Claim) -> None:
        """Hold it no more."""
        with self._lock:
            self._held.discard((claim.actor, claim.key_sha256))


async def once(request: Request, do: Handler) -> Response:
    """Return the answer to a POST, from `do` or from the time before."""
    key = request.headers.get(HEADER)
    if key is None:
        return await do(request)
    if not 0 < len(key) <= MAX_KEY_CHARS or not (key.isascii() and key.isprintable()):
        raise InvalidError(HEADER, key, f"send up to {MAX_KEY_CHARS} printable characters")
    if int(request.headers.get("content-length") or 0) > MAX_HASHED_BYTES:
        raise InvalidError(HEADER, key, "leave it out where bytes are uploaded")
    services: Services = request.app.state.services
    # A key that is refused now gets no answer of the past either.
    actor = await to_thread.run_sync(_actor, services, request.headers.get("authorization"))
    claim = _Claim(actor, key, await _fingerprint(request))
    in_flight: InFlight = request.app.state.in_flight
    in_flight.take(claim)
    try:
        answered = await to_thread.run_sync(_answered, services, claim)
        if answered is not None:
            return answered
        answer = await do(request)
        if answer.status_code in _GOOD:
            session = getattr(request.state, "write_session", None)
            await to_thread.run_sync(_keep, services, session, claim, answer)
        return answer
    finally:
        # With a session of the route, the commit comes after this; its row is locked until then,
        # and another request waits for its turn to write, or finds the row.
        in_flight.give_back(claim)


def _actor(services: Services, authorization: str | None) -> str:
    return events.key_actor(dependencies.identify(services, authorization).name)


async def _fingerprint(request: Request) -> str:
    digest = hashlib.sha256(f"{request.method} {request.url.path}?{request.url.query}\n".encode())
    digest.update(await request.body())
    return digest.hexdigest()


def _answered(services: Services, claim: _Claim) -> Response | None:
    """Return what was answered before; None: it was not done."""
    with services.reading() as session:
        row = session.get(tables.IdempotencyKey, (claim.actor, claim.key_sha256))
        if row is None or row.created_at < services.clock.now() - KEPT_S:
            return None
        if row.fingerprint != claim.fingerprint:
            raise KeyReusedError(f"{HEADER}: it came with another request before: make a new one")
        if row.body is None:
            raise AnswerLostError(f"{HEADER}: this was done; its answer is not known any more")
        body = services.sealer.unseal(row.body, claim.purpose)
        return Response(body, row.status, {**row.headers, "Idempotency-Replayed": "true"})


def _keep(services: Services, session: Session | None, claim: _Claim, answer: Response) -> None:
    if session is not None:
        _write(services, session, claim, answer)
        return
    with services.transaction() as own:
        _write(services, own, claim, answer)


def _write(services: Services, session: Session, claim: _Claim, answer: Response) -> None:
    now = services.clock.now()
    _forget(session, before=now - KEPT_S)
    body: bytes | memoryview | None = getattr(answer, "body", None)
    kept = None if body is None or len(body) > KEPT_BODY_BYTES else bytes(body)
    session.flush()  # what this raises is the route's own
    older = session.get(tables.IdempotencyKey, (claim.actor, claim.key_sha256))
    if older is not None and older.created_at >= now - KEPT_S:
        raise _under_way()
    if older is not None:
        session.delete(older)
        session.flush()
    session.add(
        tables.IdempotencyKey(
            actor=claim.actor,
            key_sha256=claim.key_sha256,
            fingerprint=claim.fingerprint,
            created_at=now,
            status=answer.status_code,
            headers={name: answer.headers[name] for name in KEPT_HEADERS if name in answer.headers},
            body=None if kept is None else services.sealer.seal(kept, claim.purpose),
        )
    )
    try:
        session.flush()
    except IntegrityError as error:
        raise _under_way() from error


def _forget(session: Session, *, before: float) -> None:
    table = tables.IdempotencyKey
    old = session.exec(
        select(table.actor, table.key_sha256)
        .where(col(table.created_at) < before)
        .limit(_FORGOTTEN_TOGETHER)
    ).all()
    for actor, key in old:
        session.connection().execute(
            delete(table).where(col(table.actor) == actor, col(table.key_sha256) == key)
        )


def _under_way() -> InFlightError:
    return InFlightError(f"{HEADER}: this request is being done: ask again")
