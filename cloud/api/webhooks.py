"""Webhooks: who is told of events."""

from typing import Annotated

from fastapi import APIRouter, Query
from sqlmodel import Session

from cloud import schema, shapes, tables
from cloud.api.dependencies import (
    ActorDep,
    Cursor,
    Limit,
    ReadSession,
    ServicesDep,
    WriteSession,
)
from cloud.api.preconditions import AnsweredDep, ShownDep, UnchangedDep
from cloud.api.routes import Route
from cloud.registry import deliveries, events, webhooks
from cloud.registry.webhooks import Wish
from cloud.services import Services
from cloud.webhooks import addresses
from cloud.webhooks.addresses import Network
from cloud.webhooks.sender import Sender

router = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=Route)

MAX_ID = (1 << 63) - 1


@router.post("", status_code=201)
def create(
    body: shapes.NewWebhook,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    answered: AnsweredDep,
) -> shapes.WebhookMade:
    """Have a URL told of events from now on; the secret is shown this once."""
    wish = Wish(body.url, body.kinds, body.secret, body.description, body.active)
    row, secret = webhooks.create(
        session,
        wish,
        sealer=services.sealer,
        private=_private(services),
        actor=actor,
        now=services.clock.now(),
    )
    shown = _webhook(session, row)
    return answered(shapes.WebhookMade(**shown.model_dump(), secret=secret), row.revision)


@router.get("")
def list_webhooks(
    session: ReadSession, cursor: Cursor = None, limit: Limit = 50
) -> schema.Page[shapes.Webhook]:
    """Return webhooks by id."""
    found = webhooks.page(session, after=cursor or "", limit=limit)
    following = found[-1].id if len(found) == limit else None
    return schema.Page(items=[_webhook(session, each) for each in found], next=following)


@router.get("/{webhook}")
def get_webhook(webhook: str, session: ReadSession, shown: ShownDep) -> shapes.Webhook:
    """Return one webhook."""
    row = webhooks.get(session, webhook)
    return shown(_webhook(session, row), row.revision)


@router.patch("/{webhook}")
def change(
    *,
    webhook: str,
    body: shapes.WebhookChanges,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
    answered: AnsweredDep,
) -> shapes.Webhook:
    """Change what is given."""
    row = webhooks.get(session, webhook)
    unchanged(row.revision)
    webhooks.change(
        session,
        row,
        **body.model_dump(),
        sealer=services.sealer,
        private=_private(services),
        actor=actor,
        now=services.clock.now(),
    )
    return answered(_webhook(session, row), row.revision)


@router.delete("/{webhook}", status_code=204)
def remove(
    webhook: str,
    session: WriteSession,
    services: ServicesDep,
    actor: ActorDep,
    unchanged: UnchangedDep,
) -> None:
    """Forget a webhook and its dead letters."""
    row = webhooks.get(session, webhook)
    unchanged(row.revision)
    webhooks.remove(session, row, actor=actor, now=services.clock.now())


@router.get("/{webhook}/deliveries")
def list_deliveries(
    webhook: str,
    session: ReadSession,
    cursor: Annotated[int | None, Query(ge=0, le=MAX_ID)] = None,
    limit: Limit = 50,
) -> schema.Page[shapes.Delivery]:
    """Return attempts, newest first; the newest 500 are kept."""
    found = deliveries.page(session, webhook, before=cursor, limit=limit)
    items = [_delivery(row) for row in found]
    return schema.Page(items=items, next=str(found[-1].id) if len(found) == limit else None)


@router.post("/{webhook}/replay")
def replay(
    webhook: str, body: shapes.Replay, session: WriteSession, services: ServicesDep, actor: ActorDep
) -> shapes.Replayed:
    """Tell events once more: the dead letters, or all after an id. Switches the webhook on."""
    row = webhooks.get(session, webhook)
    now = services.clock.now()
    queued = webhooks.replay(session, row, after=body.after, actor=actor, now=now)
    return shapes.Replayed(webhook=row.id, queued=queued)


@router.post("/{webhook}/test")
def test(webhook: str, services: ServicesDep, actor: ActorDep) -> shapes.Delivery:
    """Send a message that is no event, now, and return how that went."""
    with services.reading() as session:
        row = webhooks.get(session, webhook)
        session.expunge(row)
    now = services.clock.now()
    answer = Sender(services).try_out(row, now=now)
    with services.transaction() as session:
        row = webhooks.get(session, webhook)
        outcome = "delivered" if answer.good else "failed"
        made = deliveries.log(session, row, 0, answer, attempt=1, outcome=outcome, now=now)
        data = {"status": answer.status, "outcome": outcome}
        events.add(session, at=now, actor=actor, kind="webhook.tested", subject=row.id, data=data)
        return _delivery(made)


def _private(services: Services) -> tuple[Network, ...]:
    return addresses.networks(services.settings.webhook_networks)


def _webhook(session: Session, row: tables.Webhook) -> shapes.Webhook:
    return shapes.Webhook(
        id=row.id,
        url=row.url,
        kinds=row.kinds,
        description=row.description,
        active=row.active,
        created_at=row.created_at,
        created_by=row.created_by,
        cursor=row.cursor,
        waiting=deliveries.next_letter(session, row) is not None,
        failing_since=row.failing_since,
        next_at=row.next_at if row.failing_since is not None and row.active else None,
        disabled_reason=row.disabled_reason,
        dead=deliveries.dead(session, row.id),
    )


def _delivery(row: tables.Delivery) -> shapes.Delivery:
    return shapes.Delivery.model_validate(row.model_dump())
