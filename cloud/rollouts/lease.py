"""Which of several registries on one database looks after rollouts.

Each step renews the lease in the transaction that it writes in, and transactions that write run
one after the other (`cloud.database`): so no two registries act on one state, whatever their
clocks say. The lease only spares the others the work.
"""

from sqlmodel import Session

from cloud import tables

NAME = "rollouts"
LEASE_S = 5.0


def held_by_other(session: Session, owner: str, *, now: float) -> bool:
    """Say whether another registry looks after rollouts at present."""
    row = session.get(tables.Lease, NAME)
    return row is not None and row.owner != owner and row.expires_at > now


def renewal_due(session: Session, owner: str, *, now: float) -> bool:
    """Say whether our lease is half over, or not ours yet."""
    row = session.get(tables.Lease, NAME)
    return row is None or row.owner != owner or row.expires_at < now + LEASE_S / 2


def take(session: Session, owner: str, *, now: float) -> bool:
    """Take or renew the lease in this transaction; say whether it is ours now."""
    row = session.get(tables.Lease, NAME)
    if row is None:
        row = tables.Lease(name=NAME, owner=owner, expires_at=0.0)
    elif row.owner != owner and row.expires_at > now:
        return False
    row.owner, row.expires_at = owner, now + LEASE_S
    session.add(row)
    session.flush()
    return True


def give_back(session: Session, owner: str) -> None:
    """Let another registry take over at once."""
    row = session.get(tables.Lease, NAME)
    if row is not None and row.owner == owner:
        row.expires_at = 0.0
        session.add(row)
