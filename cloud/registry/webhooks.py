"""Webhooks: who is told of events, and how far each is.

Nothing is fanned out: an event is one row, and each webhook has a cursor over the events. So what
was committed is told sooner or later, whatever is killed in between, and in order; at least once,
since a receiver's answer may be lost. How far each is: cloud.registry.deliveries.
"""

import secrets
import urllib.parse
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete
from sqlmodel import Session, col, func, select

from cloud import tables
from cloud.errors import ConflictError, NotFoundError
from cloud.registry import events
from cloud.trust.sealing import Sealer
from cloud.webhooks import addresses, signing
from cloud.webhooks.addresses import Network
from runtime.errors import InvalidError

MAX_WEBHOOKS = 100
MAX_DESCRIPTION_CHARS = 256
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True)
class Wish:
    """What an operator asks for."""

    url: str
    kinds: Sequence[str] = ()
    """Empty: all."""
    secret: str | None = None
    """None: a new one."""
    description: str = ""
    active: bool = True


def create(
    session: Session,
    wish: Wish,
    *,
    sealer: Sealer,
    private: Sequence[Network],
    actor: str,
    now: float,
) -> tuple[tables.Webhook, str]:
    """Return a new webhook, which is told of what happens from now on, and its secret."""
    count = session.exec(select(func.count()).select_from(tables.Webhook)).one()
    if count >= MAX_WEBHOOKS:
        raise ConflictError(f"webhooks: there are {count}, and there may be {MAX_WEBHOOKS}")
    secret = wish.secret or signing.make_secret()
    signing.key_of(secret)
    made = "wh-" + "".join(secrets.choice(_BASE32) for _ in range(8))
    row = tables.Webhook(
        id=made,
        url=addresses.check_url(wish.url, private=private),
        kinds=list(events.check_kinds(wish.kinds)),
        description=_description(wish.description),
        active=wish.active,
        secret=sealer.seal(secret.encode(), made),
        created_at=now,
        created_by=actor,
        cursor=events.newest(session),
    )
    session.add(row)
    _tell(session, row, "webhook.created", actor=actor, now=now)
    return row, secret


def change(
    session: Session,
    row: tables.Webhook,
    *,
    url: str | None = None,
    kinds: Sequence[str] | None = None,
    description: str | None = None,
    active: bool | None = None,
    secret: str | None = None,
    sealer: Sealer,
    private: Sequence[Network],
    actor: str,
    now: float,
) -> None:
    """Change what is not None. To switch one on again forgets its failures, and skips nothing."""
    if url is not None:
        row.url = addresses.check_url(url, private=private)
    if kinds is not None:
        row.kinds = list(events.check_kinds(kinds))
    if description is not None:
        row.description = _description(description)
    if secret is not None:
        signing.key_of(secret)
        row.secret = sealer.seal(secret.encode(), row.id)
    if active is not None:
        row.active, row.disabled_reason = active, ""
    row.attempts, row.next_at, row.failing_since = 0, 0.0, None
    row.revision += 1
    session.add(row)
    _tell(session, row, "webhook.changed", actor=actor, now=now)


def remove(session: Session, row: tables.Webhook, *, actor: str, now: float) -> None:
    """Forget a webhook, its deliveries and its dead letters."""
    for table in (tables.Delivery, tables.DeadLetter):
        session.connection().execute(delete(table).where(col(table.webhook) == row.id))
    session.delete(row)
    events.add(session, at=now, actor=actor, kind="webhook.removed", subject=row.id)


def get(session: Session, webhook: str) -> tables.Webhook:
    """Return a webhook; raise NotFoundError if there is none."""
    row = session.get(tables.Webhook, webhook)
    if row is None:
        raise NotFoundError("webhook", webhook, "see `packhorse webhooks list`")
    return row


def page(session: Session, *, after: str, limit: int) -> Sequence[tables.Webhook]:
    """Return up to `limit` webhooks by id, from behind `after` on."""
    query = select(tables.Webhook).where(col(tables.Webhook.id) > after)
    return session.exec(query.order_by(col(tables.Webhook.id)).limit(limit)).all()


def replay(
    session: Session, row: tables.Webhook, *, after: int | None, actor: str, now: float
) -> int:
    """Have events told once more: all after `after`, or without it the dead letters.

    Returns how many dead letters were queued, 0 with `after`. Switches the webhook on.
    """
    if after is not None and not 0 <= after <= events.newest(session):
        raise InvalidError("after", after, "give the id of an event")
    queued = 0
    if after is not None:
        row.cursor = min(row.cursor, after)
    else:
        query = select(tables.DeadLetter).where(tables.DeadLetter.webhook == row.id)
        for letter in session.exec(query).all():
            letter.queued = True
            session.add(letter)
            queued += 1
    row.active, row.disabled_reason = True, ""
    row.attempts, row.next_at, row.failing_since = 0, 0.0, None
    row.revision += 1
    session.add(row)
    data = {"queued": queued} if after is None else {"after": after}
    _tell(session, row, "webhook.replayed", actor=actor, now=now, **data)
    return queued


def _tell(
    session: Session, row: tables.Webhook, kind: str, *, actor: str, now: float, **data: object
) -> None:
    """Leave an event; of the URL it shows the host alone, since the rest may be a secret."""
    session.flush()
    host = urllib.parse.urlsplit(row.url).hostname
    shown = {"host": host, "kinds": row.kinds, "active": row.active, **data}
    events.add(session, at=now, actor=actor, kind=kind, subject=row.id, data=shown)


def _description(text: str) -> str:
    if len(text) > MAX_DESCRIPTION_CHARS:
        raise InvalidError("description", text, f"use at most {MAX_DESCRIPTION_CHARS} characters")
    return text
