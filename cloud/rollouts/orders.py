"""What operators tell a rollout to do. Pure: returns the actions, or says why not."""

from cloud.errors import ConflictError
from cloud.rollouts import decide
from cloud.rollouts.state import MOVING, Action, Enter, Rollout, State, Step, Turn


def pause(rollout: Rollout) -> tuple[Action, ...]:
    """Let nobody in until it is resumed; what is under way goes on."""
    if rollout.state is State.PAUSED:
        return ()
    _require(rollout, State.RUNNING, what="paused")
    return (Turn(State.PAUSED, "paused by an operator"),)


def resume(rollout: Rollout) -> tuple[Action, ...]:
    """Go on; the wave's time begins anew."""
    if rollout.state is State.RUNNING:
        return ()
    _require(rollout, State.PAUSED, what="resumed")
    return (Turn(State.RUNNING, ""), Enter(rollout.wave, rollout.step, "resumed"))


def approve(rollout: Rollout) -> int:
    """Return the wave that is approved: the one that waits, or the next that will."""
    _require(rollout, State.RUNNING, State.PAUSED, what="approved")
    first = rollout.wave if rollout.step is Step.APPROVAL else rollout.wave + 1
    for number, wave in enumerate(rollout.strategy.waves):
        if number >= first and wave.approve and number not in rollout.approved:
            return number
    raise ConflictError(f"rollout: {rollout.id} has no wave that waits for approval")


def promote(rollout: Rollout) -> int:
    """Return the wave whose gate and soak are passed over."""
    _require(rollout, State.RUNNING, what="promoted")
    if rollout.step is Step.APPROVAL:
        raise ConflictError(
            f"rollout: wave {rollout.wave + 1} of {rollout.id} waits for approval: approve it"
        )
    return rollout.wave


def cancel(rollout: Rollout) -> tuple[Action, ...]:
    """Let nobody in any more; devices that were changed keep it."""
    if rollout.state is State.CANCELLED:
        return ()
    _require(rollout, State.RUNNING, State.PAUSED, State.COMPLETE, what="cancelled")
    reason = "cancelled by an operator"
    return (Turn(State.CANCELLED, reason), *decide.not_reached(rollout, reason))


def revert(rollout: Rollout) -> tuple[Action, ...]:
    """Give every device that was changed what it ran before."""
    if rollout.state in {State.REVERTING, State.REVERTED}:
        return ()
    return tuple(decide.give_up(rollout, "reverted by an operator", revert=True))


def supersede(rollout: Rollout, by: str) -> tuple[Action, ...]:
    """Make way for a newer document of the same name."""
    if rollout.state not in MOVING | {State.COMPLETE} or rollout.state is State.REVERTING:
        return ()
    reason = f"superseded by {by}"
    return (Turn(State.SUPERSEDED, reason), *decide.not_reached(rollout, reason))


def _require(rollout: Rollout, *states: State, what: str) -> None:
    if rollout.state not in states:
        raise ConflictError(
            f"rollout: {rollout.id} is {rollout.state.value}, so it cannot be {what}"
        )
