"""What each webhook is told next, and what came of it. cloud.webhooks.sender does the telling."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import delete
from sqlmodel import Session, col, func, select

from cloud import tables
from cloud.registry import events, webhooks
from cloud.registry.events import Filter
from cloud.webhooks import schedule
from cloud.webhooks.post import Answer
from cloud.webhooks.schedule import Schedule, Then, Tried

KEPT = 500
"""Attempts of one webhook."""
SKIPPED = 1000
"""So many events that a webhook does not want are passed over before that is written down."""


@dataclass(frozen=True)
class Letter:
    """An event that a webhook is to be told of."""

    event: tables.Event
    replayed: bool
    """It is a dead letter."""
    cursor: int
    """Of the webhook when this was chosen."""


def page(
    session: Session, webhook: str, *, before: int | None, limit: int
) -> Sequence[tables.Delivery]:
    """Return up to `limit` attempts, newest first, older than number `before`."""
    query = select(tables.Delivery).where(
        tables.Delivery.webhook == webhooks.get(session, webhook).id
    )
    if before is not None:
        query = query.where(col(tables.Delivery.id) < before)
    return session.exec(query.order_by(col(tables.Delivery.id).desc()).limit(limit)).all()


def dead(session: Session, webhook: str) -> int:
    """Return how many dead letters there are."""
    query = select(func.count()).where(col(tables.DeadLetter.webhook) == webhook)
    return session.exec(query).one()


def next_letter(session: Session, row: tables.Webhook) -> Letter | None:
    """Return what a webhook is to be told next; None: there is nothing.

    A webhook is never told of itself: its own failures would have no end.
    """
    query = (
        select(tables.Event)
        .join(tables.DeadLetter, col(tables.DeadLetter.event) == col(tables.Event.id))
        .where(tables.DeadLetter.webhook == row.id, col(tables.DeadLetter.queued))
        .order_by(col(tables.Event.id))
        .limit(1)
    )
    found = session.exec(query).first()
    if found is not None:
        return Letter(found, replayed=True, cursor=row.cursor)
    following = (
        select(tables.Event)
        .where(
            col(tables.Event.id) > row.cursor,
            tables.Event.subject != row.id,
            *Filter(kinds=tuple(row.kinds)).conditions(),
        )
        .order_by(col(tables.Event.id))
        .limit(1)
    )
    found = session.exec(following).first()
    return None if found is None else Letter(found, replayed=False, cursor=row.cursor)


def settle(
    session: Session,
    row: tables.Webhook,
    letter: Letter,
    answer: Answer,
    *,
    patience: Schedule,
    chance: float,
    now: float,
) -> None:
    """Write down how an attempt went, and what follows; `chance` is drawn from [0, 1)."""
    event = letter.event.id
    assert event is not None, "read from the database"
    attempt = row.attempts + 1
    outcome = "delivered"
    if answer.good:
        row.attempts, row.failing_since, row.next_at = 0, None, 0.0
        _done(session, row, letter, event)
    else:
        row.attempts = attempt
        row.failing_since = now if row.failing_since is None else row.failing_since
        row.next_at = now + schedule.wait_s(patience, attempt, chance=chance)
        tried = Tried(letter.event.at, row.failing_since, gone=answer.gone)
        then = schedule.after(patience, tried, now=now)
        outcome = "dead" if then is Then.DEAD or letter.replayed else "failed"
        if then is Then.DISABLE:
            _disable(session, row, answer, now=now)
        if outcome == "dead":
            _bury(session, row, letter, event, now=now)
    session.add(row)
    log(session, row, event, answer, attempt=attempt, outcome=outcome, now=now)


def log(
    session: Session,
    row: tables.Webhook,
    event: int,
    answer: Answer,
    *,
    attempt: int,
    outcome: str,
    now: float,
) -> tables.Delivery:
    """Keep an attempt, and of the older ones the newest."""
    made = tables.Delivery(
        webhook=row.id,
        event=event,
        at=now,
        attempt=attempt,
        outcome=outcome,
        status=answer.status,
        took_ms=answer.took_ms,
        detail=answer.detail.replace("\0", "?"),
    )
    session.add(made)
    session.flush()
    oldest = (
        select(tables.Delivery.id)
        .where(tables.Delivery.webhook == row.id)
        .order_by(col(tables.Delivery.id).desc())
        .offset(KEPT)
        .limit(1)
    )
    found = session.exec(oldest).first()
    if found is not None:
        session.connection().execute(
            delete(tables.Delivery).where(
                col(tables.Delivery.webhook) == row.id, col(tables.Delivery.id) <= found
            )
        )
    return made


def _done(session: Session, row: tables.Webhook, letter: Letter, event: int) -> None:
    if letter.replayed:
        found = session.get(tables.DeadLetter, (row.id, event))
        if found is not None:
            session.delete(found)
    else:
        _advance(row, letter, event)


def _advance(row: tables.Webhook, letter: Letter, event: int) -> None:
    # Moved meanwhile: somebody asked for a replay, of this event too perhaps.
    if row.cursor == letter.cursor:
        row.cursor = event


def _bury(session: Session, row: tables.Webhook, letter: Letter, event: int, *, now: float) -> None:
    found = session.get(tables.DeadLetter, (row.id, event))
    if found is None:
        found = tables.DeadLetter(webhook=row.id, event=event, at=now)
    found.queued = False
    session.add(found)
    if letter.replayed:
        return
    _advance(row, letter, event)
    events.add(
        session,
        at=now,
        actor=events.REGISTRY,
        kind="webhook.dead_lettered",
        subject=row.id,
        data={"event": event},
    )


def _disable(session: Session, row: tables.Webhook, answer: Answer, *, now: float) -> None:
    row.active = False
    row.disabled_reason = (
        "the receiver said 410 Gone" if answer.gone else f"it failed for days: {answer.detail}"
    )[: events.MAX_REASON_CHARS]
    data = {"reason": row.disabled_reason}
    events.add(session, at=now, actor=events.REGISTRY, kind="webhook.disabled", subject=row.id,
               data=data)  # fmt: skip
