"""Enrolment tokens: the right to enrol one device, once, for a while.

    pht_<secret>.<SHA-256 of the CA certificate>

The second half is for the device: by it, it knows the registry it talks to before it trusts it.
"""

from collections.abc import Mapping

from sqlmodel import Session

from cloud import tables
from cloud.errors import TokenExpiredError, TokenUnknownError, TokenUsedError
from cloud.registry import devices, events
from cloud.trust import keys
from runtime import topics
from runtime.errors import InvalidError

PREFIX = "pht_"
DEFAULT_TTL_S = 3600.0
MAX_TTL_S = 7 * 86400.0


def create(
    session: Session,
    *,
    labels: Mapping[str, str],
    ttl_s: float,
    device: str | None,
    fingerprint: str,
    actor: str,
    now: float,
) -> tuple[str, tables.EnrolmentToken]:
    """Return a new token, shown this once, and its row.

    With `device`, it enrols that id only, and may replace that device's certificate.
    """
    if not 0 < ttl_s <= MAX_TTL_S:
        raise InvalidError("ttl_s", ttl_s, f"give up to {MAX_TTL_S:.0f} seconds (7 days)")
    if device is not None:
        topics.device_id(device)
    secret = keys.make_secret(PREFIX)
    row = tables.EnrolmentToken(
        sha256=keys.hashed(secret),
        labels=devices.check_labels(labels),
        device=device,
        created_at=now,
        created_by=actor,
        expires_at=now + ttl_s,
    )
    session.add(row)
    events.add(
        session,
        at=now,
        actor=actor,
        kind="token.created",
        subject=device or "any device",
        data={"labels": row.labels, "expires_at": row.expires_at},
    )
    return f"{secret}.{fingerprint}", row


def find(session: Session, token: str) -> tables.EnrolmentToken:
    """Return the row of a token, good or not; raise TokenUnknownError if there is none."""
    secret = token.partition(".")[0]
    row = session.get(tables.EnrolmentToken, keys.hashed(secret))
    if row is None:
        raise TokenUnknownError("token: it was not made here: run `packhorse devices token`")
    return row


def require_good(row: tables.EnrolmentToken, *, now: float) -> None:
    """Raise TokenUsedError or TokenExpiredError unless the token may enrol a device now."""
    if row.used_at is not None:
        raise TokenUsedError(
            f"token: it was used to enrol {row.used_by}; each works once: "
            "run `packhorse devices token`"
        )
    if now > row.expires_at:
        raise TokenExpiredError(
            f"token: it expired {now - row.expires_at:.0f} seconds ago: "
            "run `packhorse devices token`"
        )
