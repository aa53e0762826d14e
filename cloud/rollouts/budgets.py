"""Who is unavailable, and whether one more may be. Pure."""

from collections import Counter

from cloud.rollouts.state import IN_FLIGHT, Member, Rollout, Scene, Sight, Standing, State

_NEVER_BEGUN = frozenset({Standing.WAITING, Standing.NOT_REACHED, Standing.SUPERSEDED})


def unavailable(rollout: Rollout, member: Member, sight: Sight, now: float) -> bool:
    """Say whether a device counts against the budget.

    One that is on its way does, and one that is not heard of; but for one that was away long
    before its turn, which would hold its site for ever, and in a revert one that was not changed.
    """
    if member.standing in IN_FLIGHT:
        return True
    if not sight.present or sight.heard:
        return False
    if rollout.state is State.REVERTING:
        return member.admitted
    if member.standing in _NEVER_BEGUN:
        since = sight.heard_at
        return since is not None and now - since <= rollout.strategy.silence_s
    return True


class Room:
    """How much of the budget is left, group by group."""

    def __init__(self, rollout: Rollout, scene: Scene, now: float) -> None:
        self._rollout, self._scene, self._now = rollout, scene, now
        self._budget = rollout.strategy.budget
        self.sizes: Counter[str] = Counter()
        self.used: Counter[str] = Counter()
        if self._budget is None:
            return
        for device, member in rollout.members.items():
            sight = scene.of(device)
            if sight.present:
                self.sizes[sight.group] += 1
                self.used[sight.group] += unavailable(rollout, member, sight, now)

    def take(self, device: str) -> bool:
        """Count a device in, if there is room for it; one that is counted already costs nothing."""
        if self._budget is None:
            return True
        sight = self._scene.of(device)
        if unavailable(self._rollout, self._rollout.members[device], sight, self._now):
            return True
        if self.used[sight.group] >= self.most(sight.group):
            return False
        self.used[sight.group] += 1
        return True

    def most(self, group: str) -> int:
        """Return how many of a group may be unavailable."""
        assert self._budget is not None, "asked for only with a budget"
        return self._budget.of(self.sizes[group])
