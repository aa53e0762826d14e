"""What keeps a rollout from going on although it waits for nobody: kept with it, with its age.

One of each kind at most. The log and an event say when one begins and when it ends; while it lasts
its reason is that of the last try.
"""

import logging
from dataclasses import dataclass

from sqlmodel import Session

from cloud import tables
from cloud.registry import events, explain

log = logging.getLogger(__name__)

STEP = "step"
"""What devices should be told now cannot be brought about."""
FOLLOW = "follow"
"""An alias has moved, and no rollout can be made of that."""
_SAID = {STEP: "it cannot go on", FOLLOW: "a moved alias cannot be followed"}


@dataclass(frozen=True)
class Trouble:
    """What is in the way."""

    what: str
    reason: str
    since: float

    def said(self, now: float) -> str:
        """Return a sentence for people."""
        age = explain.duration(max(0.0, now - self.since))
        return f"{_SAID[self.what]}, for {age}: {self.reason}"


def of(row: tables.Rollout) -> list[Trouble]:
    """Return what is in the way of a rollout."""
    return [
        Trouble(what, found["reason"], found["since"])
        for what, found in sorted(row.troubles.items())
    ]


def said(row: tables.Rollout, now: float) -> list[str]:
    """Return the sentences."""
    return [each.said(now) for each in of(row)]


def note(session: Session, row: tables.Rollout, what: str, reason: str, *, now: float) -> None:
    """Keep that something is in the way; the same again changes nothing."""
    before = row.troubles.get(what)
    if before is not None and before["reason"] == reason:
        return
    since = now if before is None else before["since"]
    _write(session, row, {**row.troubles, what: {"reason": reason, "since": since}})
    if before is None:
        extra = {"rollout": row.id, "trouble": what, "why": reason}
        log.warning("rollout is stuck", extra=extra)
        _tell(session, row, "rollout.blocked", {"trouble": what, "reason": reason}, now)


def clear(session: Session, row: tables.Rollout, what: str, *, now: float) -> None:
    """Forget what is not in the way any more."""
    if what not in row.troubles:
        return
    _write(session, row, {key: each for key, each in row.troubles.items() if key != what})
    log.info("rollout goes on", extra={"rollout": row.id, "trouble": what})
    _tell(session, row, "rollout.unblocked", {"trouble": what}, now)


def _write(session: Session, row: tables.Rollout, found: dict[str, dict[str, object]]) -> None:
    row.troubles = found
    row.revision += 1
    session.add(row)
    session.flush()


def _tell(
    session: Session, row: tables.Rollout, kind: str, data: dict[str, str], now: float
) -> None:
    data = {"name": row.name, **data}
    events.add(session, at=now, actor=events.REGISTRY, kind=kind, subject=row.id, data=data)
