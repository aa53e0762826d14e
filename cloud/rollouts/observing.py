"""What a device's own words, its silence and the time make of its standing. Pure."""

from cloud.rollouts import windows
from cloud.rollouts.state import (
    MOVING,
    OVER,
    Member,
    Move,
    Progress,
    Rollout,
    Sight,
    Standing,
    State,
)

_LIVE = frozenset({State.RUNNING, State.PAUSED, State.COMPLETE})
_EARLY = frozenset({Progress.QUIET, Progress.MOVING})


def observe(
    rollout: Rollout, device: str, sight: Sight, now: float, *, window_open: bool
) -> Move | None:
    """Return how a device's standing changes by what is seen of it; None: it does not."""
    member = rollout.members[device]
    if rollout.state in OVER and member.standing is not Standing.UPDATING:
        return None
    match member.standing:
        case Standing.UPDATING:
            return _updating(rollout, device, member, sight, now, window_open=window_open)
        case Standing.GONE | Standing.SUPERSEDED | Standing.NOT_REACHED:
            return _aside(rollout, device, member, sight)
        case Standing.REVERTED:
            return None
    judge = {
        Standing.WAITING: _waiting,
        Standing.REVERTING: _reverting,
        Standing.REVERT_UNSEEN: _reverting,
    }.get(member.standing, _changed)
    return judge(rollout, device, member, sight, now)


def silent(rollout: Rollout, member: Member, sight: Sight, now: float) -> bool:
    """Say whether a device is not heard of for longer than is allowed after it was told."""
    last = max(member.since, sight.heard_at or 0.0)
    return not sight.heard and now - last > rollout.strategy.silence_s


def _waiting(
    rollout: Rollout, device: str, member: Member, sight: Sight, now: float
) -> Move | None:
    if not sight.present:
        return Move(device, Standing.GONE, "revoked, or no longer matched by the target")
    if sight.superseded:
        return Move(device, Standing.SUPERSEDED, sight.superseded)
    away = now - max(member.since, sight.heard_at or 0.0)
    if (
        rollout.state is State.COMPLETE
        and not sight.heard
        and away > rollout.strategy.device_timeout_s
    ):
        return Move(device, Standing.NOT_REACHED, "not heard of; it gets this when it comes back")
    return None


def _updating(
    rollout: Rollout, device: str, member: Member, sight: Sight, now: float, *, window_open: bool
) -> Move | None:
    if not sight.present:
        return Move(device, Standing.GONE, "revoked, or no longer matched by the target")
    if sight.superseded:
        return Move(device, Standing.SUPERSEDED, sight.superseded)
    if sight.progress is Progress.RUNNING:
        return Move(device, Standing.UPDATED)
    if sight.progress is Progress.REFUSED:
        return Move(device, Standing.FAILED, sight.reason)
    if not window_open and sight.progress in _EARLY and rollout.state in _LIVE:
        return Move(device, Standing.WAITING, "the update window ended before it was done")
    return _late(rollout, device, member, sight, now)


def _late(rollout: Rollout, device: str, member: Member, sight: Sight, now: float) -> Move | None:
    """Judge a device that is on its way by the time that it takes."""
    if silent(rollout, member, sight, now):
        return Move(device, Standing.SILENT, "not heard of since it was told")
    strategy = rollout.strategy
    tries_again = sight.retrying and member.retries < strategy.retries
    grace_s = strategy.backoff_s * 2.0**member.retries if tries_again else 0.0
    allowed_s = strategy.device_timeout_s + grace_s
    if now - member.since <= allowed_s:
        return None
    # Only the time counts in which it could download.
    if windows.opened_s(strategy.download, member.since, now) <= allowed_s:
        return None
    if tries_again:
        return Move(device, Standing.UPDATING, sight.reason, retry=True)
    why = sight.reason or "it has not said that it runs this"
    return Move(device, Standing.TIMED_OUT, f"not done in {strategy.device_timeout_s:g} s: {why}")


def _changed(
    rollout: Rollout, device: str, member: Member, sight: Sight, now: float
) -> Move | None:
    """Watch a device that was changed: it may fall, or get there late."""
    if not sight.present:
        return Move(device, Standing.GONE, "revoked, or no longer matched by the target")
    if rollout.state is State.REVERTING or sight.superseded:
        return None
    if sight.progress is Progress.REFUSED and member.standing is not Standing.FAILED:
        return Move(device, Standing.FAILED, sight.reason)
    if member.standing is not Standing.UPDATED:
        late = sight.progress is Progress.RUNNING and sight.heard
        return Move(device, Standing.UPDATED) if late else None
    watched = rollout.state in MOVING and member.wave == rollout.wave
    if watched and silent(rollout, member, sight, now):
        return Move(device, Standing.SILENT, "it fell silent after the update")
    return None


def _reverting(
    rollout: Rollout, device: str, member: Member, sight: Sight, now: float
) -> Move | None:
    if not sight.present:
        return Move(device, Standing.GONE, "revoked, or no longer matched by the target")
    if sight.back and sight.heard:
        return Move(device, Standing.REVERTED, member.reason)
    if member.standing is Standing.REVERT_UNSEEN:
        return None
    late = now - member.since > rollout.strategy.device_timeout_s
    if late or silent(rollout, member, sight, now):
        reason = "it shall run what it ran before, and has not said yet that it does"
        return Move(device, Standing.REVERT_UNSEEN, reason)
    return None


def _aside(rollout: Rollout, device: str, member: Member, sight: Sight) -> Move | None:
    """Take back a device whose obstacle is over, as one that joins."""
    if rollout.state in OVER or rollout.state is State.REVERTING:
        return None
    if not sight.present:
        away = member.standing is Standing.GONE
        return None if away else Move(device, Standing.GONE, "revoked, or no longer matched")
    if member.standing is Standing.GONE or (
        member.standing is Standing.SUPERSEDED and not sight.superseded
    ):
        return Move(device, Standing.WAITING)
    returned = member.standing is Standing.NOT_REACHED and sight.heard
    if returned and rollout.state is State.COMPLETE:
        return Move(device, Standing.WAITING)
    return None
