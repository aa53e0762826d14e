"""How far deployments are: where each device is that one selects, and the sum of that."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from cloud import tables
from cloud.registry import candidates, desired, devices, explain, intents
from cloud.registry.explain import DeviceState, Stage
from cloud.registry.intents import Intent


@dataclass(frozen=True)
class Overview:
    """How far a deployment is, over all devices that it selects now."""

    selected: int
    healthy: int
    by_stage: dict[str, int]
    by_presence: dict[str, int]
    complete: bool
    """Every device that it decides has said that it runs this; never with none at all."""
    settled: bool
    """Every such device runs this or gave up: waiting longer changes nothing by itself."""


def states(
    session: Session, row: tables.Deployment, *, lease_s: float, now: float
) -> list[DeviceState]:
    """Return where each device is that the deployment selects, by id; none if it is cancelled.

    `lease_s` holds for devices that did not tell their own.
    """
    if row.cancelled_at is not None:
        return []
    rivals = [wish for wish in desired.active(session) if wish.spec.name == row.module]
    (own,) = (wish for wish in rivals if wish.spec.deployment == row.id)
    standings = _standings(session, row)
    candidate = candidates.of(row)
    beside = "" if candidate is None else candidate.bundle
    query = (
        select(tables.Device, tables.Desired)
        .join(tables.Desired, col(tables.Desired.device) == col(tables.Device.id))
        .order_by(col(tables.Device.id))
    )
    found = []
    for device, state in session.exec(query):
        target = desired.target(device)
        if own.selects(target):
            attempt = own.spec_for(target).attempt
            wanted = explain.Wanted(row.id, row.bundle, row.module, attempt, candidate=beside)
            view = _view(
                device, state, rivals, own, lease_s=lease_s, standing=standings.get(device.id)
            )
            found.append(explain.explain(wanted, view, now=now))
    return found


def _standings(session: Session, row: tables.Deployment) -> dict[str, tables.RolloutDevice]:
    """Return where devices are with the rollout of a deployment; none if it has none."""
    if row.rollout is None:
        return {}
    query = select(tables.RolloutDevice).where(tables.RolloutDevice.rollout == row.rollout)
    return {each.device: each for each in session.exec(query)}


def _view(
    device: tables.Device,
    state: tables.Desired,
    rivals: Sequence[Intent],
    own: Intent,
    *,
    lease_s: float,
    standing: tables.RolloutDevice | None,
) -> explain.View:
    target = desired.target(device)
    contest = intents.contests(target, rivals).get(own.spec.name)
    winner = None if contest is None else contest.winner
    rivals_here = [each.spec.deployment for each in contest.leaders] if contest else []
    held = ""
    if not own.admits(target):
        why = f"{standing.standing}: {standing.reason}" if standing is not None else "it has joined"
        held = f"its turn in {own.rollout} has not come ({why.rstrip(': ')})"
    return explain.View(
        device=device.id,
        online=device.online,
        lease_s=device.lease_s or lease_s,
        last_seen=device.last_seen,
        generation=state.generation,
        published_generation=state.published_generation,
        reported=devices.reported(device),
        reported_at=device.reported_at,
        winner="" if winner is None else winner.spec.deployment,
        held=held,
        conflict=" and ".join(rivals_here) if winner is None else "",
    )


def overview(found: Sequence[DeviceState]) -> Overview:
    """Return the sum of device states; one that a newer deployment decides holds nothing up."""
    own = [state for state in found if state.stage is not Stage.SUPERSEDED]
    return Overview(
        selected=len(found),
        healthy=sum(state.healthy for state in found),
        by_stage=dict(Counter(state.stage.value for state in found)),
        by_presence=dict(Counter(state.presence.value for state in found)),
        complete=bool(own) and all(state.converged for state in own),
        settled=bool(found) and all(state.converged or state.gave_up for state in own),
    )
