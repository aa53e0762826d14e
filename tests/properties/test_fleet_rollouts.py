"""What a rollout never does, whatever devices and time do."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cloud.rollouts.budgets import unavailable
from cloud.rollouts.state import (
    ENDED,
    IN_FLIGHT,
    OVER,
    Move,
    Rollout,
    Scene,
    Standing,
    State,
    Turn,
)
from cloud.rollouts.strategy import Budget, Strategy
from tests.support.fleetrollouts import Device, World, strategy, wave, world

GROUPS = ("a", "b")
FATES = ("good", "good", "good", "good", "refuse", "silent", "slow")
BACK = frozenset({Standing.REVERTED, Standing.REVERT_UNSEEN, Standing.GONE})


@st.composite
def waves(draw: st.DrawFn) -> Any:
    size = draw(
        st.sampled_from([{"count": 1}, {"count": 3}, {"percent": 20.0}, {"selector": "site=a"}])
    )
    return wave(
        gate=draw(st.sampled_from([0.0, 0.5, 0.9, 1.0])),
        soak_s=draw(st.sampled_from([0.0, 60.0])),
        timeout_s=draw(st.sampled_from([300.0, 86400.0])),
        **size,
    )


@st.composite
def strategies(draw: st.DrawFn) -> Strategy:
    budget = draw(
        st.sampled_from([None, Budget(most=1, by="site"), Budget(fraction=0.3), Budget(most=2)])
    )
    limit = draw(st.sampled_from([{}, {"most_failures": 2}, {"failure_rate": 1.0}, {"least": 1}]))
    return strategy(
        *draw(st.lists(waves(), max_size=3)),
        budget=budget,
        reverts=draw(st.booleans()),
        silence_s=draw(st.sampled_from([60.0, 900.0])),
        device_timeout_s=draw(st.sampled_from([200.0, 3600.0])),
        after_s=draw(st.sampled_from([None, 5000.0])),
        **limit,
    )


@st.composite
def fleets(draw: st.DrawFn) -> dict[str, Device]:
    made = {}
    for number in range(draw(st.integers(1, 8))):
        group = draw(st.sampled_from(GROUPS))
        seen = frozenset(range(3)) if group == "a" else frozenset()
        made[f"dev-{number}"] = Device(
            fate=draw(st.sampled_from(FATES)),
            group=group,
            heard=draw(st.sampled_from([True, True, True, False])),
            waves=seen,
        )
    return made


def used(rollout: Rollout, scene: Scene, now: float) -> Counter[str]:
    """Return how many devices of each group are unavailable."""
    found: Counter[str] = Counter()
    for device, member in rollout.members.items():
        sight = scene.of(device)
        found[sight.group] += sight.present and unavailable(rollout, member, sight, now)
    return found


def check(plan: Strategy, before: Rollout, here: World) -> None:
    """Hold one decision against what must never be."""
    scene, after = here.scene(), here.rollout
    sizes = Counter(each.group for each in here.devices.values() if each.present)
    if plan.budget is not None:
        was, now = used(before, scene, here.now), used(after, scene, here.now)
        for group, count in now.items():
            assert count <= max(plan.budget.of(sizes[group]), was[group]), group
    for device, member in after.members.items():
        if member.standing is Standing.UPDATING and not before.members[device].admitted:
            assert after.state in {State.RUNNING, State.COMPLETE}
            assert member.wave == (after.last if after.state is State.COMPLETE else after.wave)
            assert scene.of(device).heard
    if after.state is State.RUNNING and after.wave > before.wave:
        passed = [m for m in after.members.values() if m.wave == before.wave]
        tried = [m for m in passed if m.standing not in {Standing.WAITING, Standing.GONE}]
        good = sum(each.standing is Standing.UPDATED for each in tried)
        assert not any(each.standing in IN_FLIGHT for each in tried)
        assert good >= plan.waves[before.wave].gate * len(tried) - 1e-9


@settings(max_examples=100)
@given(
    plan=strategies(),
    fleet=fleets(),
    events=st.lists(st.tuples(st.integers(0, 9), st.sampled_from("lhjgw."), st.floats(1, 90))),
)
def test_every_rollout_ends_within_its_budget_with_one_outcome_for_each_device(
    plan: Strategy, fleet: dict[str, Device], events: list[tuple[int, str, float]]
) -> None:
    here = world(plan, fleet)
    for number, event, seconds in events:
        happen(here, number, event)
        step(plan, here, seconds)
    here.window_open = True
    for turn in range(120):
        step(plan, here, 3000.0 if turn % 2 else 40.0)

    rollout = here.rollout
    reachable = [d for d, each in here.devices.items() if each.present and each.heard]
    aborted = [each for each in here.done if isinstance(each, Turn) and each.to in OVER]
    assert rollout.state in {State.COMPLETE, *OVER} or not reachable
    assert len(aborted) <= 1
    if rollout.state in OVER:
        assert {each.standing for each in rollout.members.values()} <= ENDED
    if rollout.state is State.REVERTED:
        changed = {e.device for e in here.done if isinstance(e, Move) and e.to is Standing.UPDATING}
        assert not any(each.admitted for each in rollout.members.values())
        assert {here.standing(d) for d in changed} <= BACK | {Standing.NOT_REACHED}


def happen(here: World, number: int, event: str) -> None:
    """Let something befall the fleet."""
    name = f"dev-{number}"
    device = here.devices.get(name)
    if event == "j" and device is None:
        here.join(name, Device(group="b", heard_at=here.now))
    elif event == "w":
        here.window_open = not here.window_open
    elif device is not None:
        device.heard = {"l": False, "h": True}.get(event, device.heard)
        device.present = device.present and event != "g"


def step(plan: Strategy, here: World, seconds: float) -> None:
    """Let the fleet live and the rollout decide until it is content; check each decision."""
    here.now += seconds
    for name, device in here.devices.items():
        device.live(admitted=here.rollout.members[name].admitted, now=here.now)
    for _ in range(50):
        before = here.rollout
        if not here.look():
            return
        check(plan, before, here)
    raise AssertionError("it never comes to rest")
