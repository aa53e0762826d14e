"""What is known of the devices of a rollout now, from rows to the values that decisions need."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlmodel import Session, col, select

from cloud import tables
from cloud.registry import desired, devices, explain, selectors
from cloud.registry.intents import Intent, Target
from cloud.rollouts import windows
from cloud.rollouts.state import Member, Progress, Rollout, Scene, Sight, Standing
from cloud.rollouts.strategy import Strategy
from runtime.messages import ModuleReport, Phase, Reported

_FRESH = frozenset({Standing.WAITING, Standing.SUPERSEDED})


@dataclass(frozen=True)
class Subject:
    """A rollout as far as devices are told of it."""

    rollout: Rollout
    target: str
    own: tuple[Intent, ...]
    """Its modules."""
    rivals: tuple[Intent, ...]
    """What could decide in its place, or is in conflict with it."""


def subject(session: Session, row: tables.Rollout, rollout: Rollout) -> Subject:
    """Return a rollout with those deployments that compete with it."""
    wishes = desired.active(session)
    own = tuple(each for each in wishes if each.rollout == row.id)
    return Subject(rollout, row.document["target"], own, rivals_of(own, wishes))


def rivals_of(own: Sequence[Intent], wishes: Iterable[Intent]) -> tuple[Intent, ...]:
    """Return those wishes that outdo some of `own`, or would be in conflict with them."""
    mine = {each.spec.name: each for each in own}
    return tuple(
        each
        for each in wishes
        if (ours := mine.get(each.spec.name)) is not None
        and each.spec.deployment != ours.spec.deployment
        and each.priority >= ours.priority
        and (
            each.priority > ours.priority
            or each.called != ours.called
            or each.sequence > ours.sequence
        )
    )


def scene(session: Session, found: Subject, *, lease_s: float, now: float) -> Scene:
    """Return what is known now of all devices of a rollout."""
    query = (
        select(tables.Device, tables.Desired.generation)
        .join(tables.RolloutDevice, col(tables.RolloutDevice.device) == col(tables.Device.id))
        .join(tables.Desired, col(tables.Desired.device) == col(tables.Device.id), isouter=True)
        .where(tables.RolloutDevice.rollout == found.rollout.id)
    )
    sights = {
        device.id: sight(found, device, generation, lease_s=lease_s, now=now)
        for device, generation in session.exec(query)
    }
    strategy = found.rollout.strategy
    download = windows.current(strategy.download, now)
    return Scene(
        sights,
        window_open=windows.is_open(strategy.update, now),
        open_s=windows.counted_s(strategy, found.rollout.wave_at, now),
        download=download,
    )


def sight(
    found: Subject,
    device: tables.Device,
    generation: int | None,
    *,
    lease_s: float,
    now: float,
) -> Sight:
    """Return what is known of one device; `generation` is that of its desired state."""
    target = desired.target(device)
    strategy = found.rollout.strategy
    attributes = target.attributes
    heard = explain.presence(
        online=device.online,
        last_seen=device.last_seen,
        lease_s=device.lease_s or lease_s,
        now=now,
    )
    report = devices.reported(device)
    told = _told(found.own, target, report)
    troubles = [each for each in told if each is not None and each.reason]
    member = found.rollout.members.get(device.id, Member())
    obstacle, superseded = rivalry(found, target, member)
    by = strategy.budget.by if strategy.budget is not None else None
    return Sight(
        present=device.revoked_at is None and selectors.parse(found.target).matches(attributes),
        heard=heard is explain.Presence.ONLINE,
        heard_at=device.last_seen,
        progress=_progress(told),
        retrying=any(each.retrying for each in troubles),
        back=_back(found.own, report, generation),
        group=attributes.get(by, "") if by else "",
        waves=_waves(strategy, attributes),
        obstacle=obstacle,
        superseded=superseded,
        reason="; ".join(f"{each.name}: {each.reason}" for each in troubles),
        downloads=_downloads(told),
    )


def _waves(strategy: Strategy, attributes: Mapping[str, str]) -> frozenset[int]:
    """Return the waves whose selector matches."""
    return frozenset(
        number
        for number, wave in enumerate(strategy.waves)
        if wave.selector is not None and selectors.parse(wave.selector).matches(attributes)
    )


def _told(
    own: Sequence[Intent], target: Target, report: Reported | None
) -> list[ModuleReport | None]:
    """Return for each module of the rollout what the device says of just that wish."""
    said: Mapping[str, ModuleReport] = {
        each.name: each for each in (report.modules if report is not None else ())
    }
    found: list[ModuleReport | None] = []
    for intent in own:
        spec, module = intent.spec_for(target), said.get(intent.spec.name)
        # A device may have made the candidate its version by itself.
        own_bundles = {spec.bundle, spec.candidate.bundle if spec.candidate else spec.bundle}
        speaks = (
            module is not None
            and (module.deployment, module.attempt) == (spec.deployment, spec.attempt)
            and module.bundle in own_bundles
        )
        found.append(module if speaks else None)
    return found


def _downloads(told: Sequence[ModuleReport | None]) -> bool:
    """Say whether a device may still have to download what it runs, or shall measure."""
    return any(
        each is None
        or each.phase is Phase.FETCHING
        or (each.phase is Phase.FAILED and each.retrying)
        or (each.candidate is not None and each.candidate.state == Phase.FETCHING.value)
        for each in told
    )


def _progress(told: Sequence[ModuleReport | None]) -> Progress:
    phases = [(each.phase, each.retrying) for each in told if each is not None]
    if (Phase.FAILED, False) in phases:
        return Progress.REFUSED
    if told and len(phases) == len(told) and all(each is Phase.RUNNING for each, _ in phases):
        return Progress.RUNNING
    if any(each in {Phase.RUNNING, Phase.CHECKING} for each, _retrying in phases):
        return Progress.SWITCHING
    return Progress.MOVING if phases else Progress.QUIET


def _back(own: Sequence[Intent], report: Reported | None, generation: int | None) -> bool:
    """Say whether a device has settled with what it shall run, and that is not this rollout."""
    if report is None or generation is None or report.generation < generation:
        return False
    ours = {each.spec.deployment for each in own}
    return all(
        each.deployment not in ours
        and (each.phase is Phase.RUNNING or (each.phase is Phase.FAILED and not each.retrying))
        for each in report.modules
    )


def rivalry(found: Subject, target: Target, member: Member) -> tuple[str, str]:
    """Return what is in conflict with a rollout on a device, and what decides in its place."""
    for rival in found.rivals:
        if not rival.selects(target):
            continue
        ours = next(each for each in found.own if each.spec.name == rival.spec.name)
        name = rival.rollout or rival.spec.deployment
        admits = rival.admits(target)
        if rival.priority > ours.priority:
            if admits:
                return "", f"{name} decides {rival.spec.name} by priority {rival.priority}"
        elif rival.called == ours.called:
            if admits or (rival.live and member.standing in _FRESH):
                return "", f"{name} is newer"
        elif admits or rival.live:
            text = f"conflict: {name} ({rival.called}) claims {rival.spec.name} too"
            return f"{text} with priority {rival.priority}", ""
    return "", ""
