"""On which terms a bundle may be brought: what its deployment allows. Pure.

budget_bytes           no more than this over the network, over all tries of one attempt
metered                whether a link that costs by the byte may be used
not_before, not_after  the window, by the device's wall clock; without a plausible one it is shut
"""

import msgspec

from runtime import clock
from runtime.messages import METERED_ALLOW, ModuleSpec

LOOK_AGAIN_S = 300.0
"""The longest wait for a window: clocks are set meanwhile, and links change."""
METERED_AGAIN_S = 60.0


class Terms(msgspec.Struct, frozen=True):
    """What a deployment says about the download of its bundle."""

    account: str = ""
    """Under which name bytes are counted: another deployment or attempt begins at 0."""
    budget_bytes: int | None = None
    metered: bool = True
    not_before: float | None = None
    not_after: float | None = None


NO_TERMS = Terms()
"""Bring it now, whatever it takes."""


class Wait(msgspec.Struct, frozen=True):
    """Why nothing may be downloaded now, and when to look again."""

    reason: str
    wait_s: float


def of(spec: ModuleSpec) -> Terms:
    """Return the terms of a wish."""
    return Terms(
        account=f"{spec.deployment}/{spec.attempt}",
        budget_bytes=spec.budget_bytes,
        metered=spec.metered == METERED_ALLOW,
        not_before=spec.not_before,
        not_after=spec.not_after,
    )


def hindrance(terms: Terms, *, metered: bool, now: float) -> Wait | None:
    """Return what is in the way of a download at `now` (seconds since 1970), if anything is."""
    if metered and not terms.metered:
        reason = "waits for a link that is not metered: or deploy with metered: allow"
        return Wait(reason, METERED_AGAIN_S)
    if terms.not_before is None and terms.not_after is None:
        return None
    if not clock.plausible(now):
        return Wait("waits for its download window: the clock is not set", METERED_AGAIN_S)
    if terms.not_before is not None and now < terms.not_before:
        left_s = terms.not_before - now
        reason = f"waits for its download window, which opens at {_moment(terms.not_before)}"
        return Wait(reason, min(left_s, LOOK_AGAIN_S))
    if terms.not_after is not None and now >= terms.not_after:
        reason = f"its download window ended at {_moment(terms.not_after)}: give it another"
        return Wait(reason, LOOK_AGAIN_S)
    return None


def _moment(at: float) -> str:
    import datetime as dt  # noqa: PLC0415 - the supervisor needs it for these words alone

    return dt.datetime.fromtimestamp(at, dt.timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
