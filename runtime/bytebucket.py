"""A token bucket for bytes: how fast they may go. Pure; time is given.

Whoever takes more than is there goes into debt and waits until it is paid, so bytes that move at
the end of their waits are never more than `burst + rate * t` in any time t, however large each
piece is, and those who take wait in the order in which they took.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class ByteBucket:
    """What may move at once, and when that was so (seconds on a clock that never jumps back)."""

    rate: float
    """Bytes a second, above 0."""
    burst: float
    level: float
    """Below 0: somebody waits for this."""
    at: float


def full(rate: float, burst: float, now: float) -> ByteBucket:
    """Return a bucket from which nobody has taken yet."""
    return ByteBucket(rate, burst, burst, now)


def take(bucket: ByteBucket, count: int, now: float) -> tuple[ByteBucket, float]:
    """Take bytes; return the bucket, and how many seconds to wait before they may move.

    A clock that goes back fills nothing.
    """
    at = max(bucket.at, now)
    level = min(bucket.burst, bucket.level + (at - bucket.at) * bucket.rate) - count
    return replace(bucket, level=level, at=at), max(0.0, -level / bucket.rate)


def give_back(bucket: ByteBucket, count: int) -> ByteBucket:
    """Return the bucket after bytes that were taken did not move."""
    return replace(bucket, level=min(bucket.burst, bucket.level + count))
