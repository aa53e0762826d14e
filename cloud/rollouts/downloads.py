"""Whether a device may be told now where to download what a rollout brings to it."""

import datetime as dt
from collections.abc import Sequence

from sqlmodel import Session, col, select

from cloud import tables
from cloud.rollouts import documents, rows, windows
from runtime.messages import Desired, FetchRequest


def asked(wanted: Desired | None, request: FetchRequest) -> tuple[str, ...]:
    """Return the deployments whose bundles a device asks for."""
    modules = () if wanted is None else wanted.modules
    named = {request.bundle, *request.blobs}
    return tuple(each.deployment for each in modules if each.bundle in named)


def closed(session: Session, ids: Sequence[str], now: float) -> str:
    """Return why these deployments may not be downloaded: no window is open; "" if they may."""
    query = (
        select(tables.Rollout)
        .join(tables.Deployment, col(tables.Deployment.rollout) == col(tables.Rollout.id))
        .where(col(tables.Deployment.id).in_(ids))
    )
    for row in session.exec(query) if ids else ():
        listed = documents.strategy(rows.document(row)).download
        if not windows.is_open(listed, now):
            at = windows.next_begin(listed, now)
            when = "never" if at is None else dt.datetime.fromtimestamp(at, dt.UTC).isoformat()
            return f"no download window of {row.id} is open; the next begins {when}"
    return ""
