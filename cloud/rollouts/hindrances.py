"""What stands in the way of a plan: sentences of a kind, each of one device or of all."""

import difflib
from collections.abc import Iterable, Mapping

from sqlmodel import Session, col, select

from cloud import shapes, tables
from cloud.registry import desired, selectors
from cloud.rollouts import reasons
from cloud.rollouts.costs import Cost
from cloud.rollouts.forecast import Forecast
from cloud.rollouts.state import Rollout, Scene, Sight
from cloud.rollouts.strategy import Strategy


def _of_all(kind: str, text: str) -> shapes.Obstacle:
    return shapes.Obstacle(kind=kind, device="", text=text)


def of_target(
    session: Session, target: str, seen: Mapping[str, Sight]
) -> Iterable[shapes.Obstacle]:
    """Say why nobody matches, if nobody does: a label that no device has, or a value."""
    if seen:
        return
    query = select(tables.Device).where(col(tables.Device.revoked_at).is_(None))
    fleet = [desired.target(device).attributes for device in session.exec(query)]
    if not fleet:
        yield _of_all("target", "no device is enrolled yet: it waits for the first")
        return
    known = sorted({key for attributes in fleet for key in attributes})
    for requirement in selectors.parse(target).requirements:
        if any(requirement.matches(attributes) for attributes in fleet):
            continue
        text = f"no device matches {requirement}"
        if requirement.key not in known:
            near = difflib.get_close_matches(requirement.key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            text = f"no device has {requirement.key!r}: {hint}"
        yield _of_all("target", text)
        return
    yield _of_all("target", f"no device matches all of {target}: it waits for the first")


def of_sights(seen: Mapping[str, Sight]) -> Iterable[shapes.Obstacle]:
    """Say which devices would not get it now."""
    for device, sight in seen.items():
        if sight.obstacle:
            yield shapes.Obstacle(kind="conflict", device=device, text=sight.obstacle)
        if sight.superseded:
            yield shapes.Obstacle(kind="superseded", device=device, text=sight.superseded)
        if not sight.heard:
            text = "not heard of: it gets this when it is"
            yield shapes.Obstacle(kind="offline", device=device, text=text)


def of_waves(
    strategy: Strategy, seen: Mapping[str, Sight], guess: Forecast
) -> Iterable[shapes.Obstacle]:
    """Say which waves would be empty: what they should prove, nobody proves."""
    if not seen:
        return
    for number, wave in enumerate(strategy.waves[:-1]):
        name = f"wave {number + 1}"
        if wave.selector is not None and not any(number in each.waves for each in seen.values()):
            yield _of_all("wave", f"{name} is empty: no device matches {wave.selector}")
        elif guess.seconds is not None and not guess.waves[number]:
            yield _of_all("wave", f"{name} is empty: the waves before it leave no device over")


def of_cost(cost: Cost) -> Iterable[shapes.Obstacle]:
    """Say which devices a bundle does not fit."""
    for kind, device, text in cost.misfits:
        yield shapes.Obstacle(kind=kind, device=device, text=text)


def of_budget(rollout: Rollout, seen: Mapping[str, Sight], now: float) -> Iterable[shapes.Obstacle]:
    """Say where the budget is used up before anything begins."""
    able = [device for device, sight in seen.items() if sight.heard]
    for text in reasons.starved(rollout, Scene(seen), able, now):
        yield _of_all("budget", text)
