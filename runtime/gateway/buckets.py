"""Token buckets: how often somebody may ask. Pure; time is given."""

from dataclasses import dataclass

from runtime.gateway.config import Limit


@dataclass(frozen=True)
class Bucket:
    """What is in a bucket, and when that was so (seconds, monotonic)."""

    tokens: float
    at: float


def full(limit: Limit, now: float) -> Bucket:
    """Return the bucket of somebody who has not asked yet."""
    return Bucket(float(limit.burst), now)


def take(bucket: Bucket, limit: Limit, now: float) -> tuple[Bucket, float]:
    """Take one token; return the bucket, and 0, or how many seconds until there is one.

    A refusal takes nothing. A clock that goes back fills nothing.
    """
    at = max(bucket.at, now)
    tokens = min(float(limit.burst), bucket.tokens + (at - bucket.at) * limit.per_s)
    if tokens >= 1:
        return Bucket(tokens - 1, at), 0.0
    return Bucket(tokens, at), (1 - tokens) / limit.per_s
