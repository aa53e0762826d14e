"""Deployments."""

import dataclasses
from collections.abc import Callable
from typing import Annotated

import msgspec
from fastapi import APIRouter, Depends, Query

from cloud import schema, shapes, tables
from cloud.api import dependencies
from cloud.api.dependencies import (
    ActorDep,
    Cursor,
    Limit,
    ReadSession,
    ServicesDep,
    WriteSession,
)
from cloud.api.preconditions import AnsweredDep, ShownDep, UnchangedDep
from cloud.api.routes import Route
from cloud.registry import deployments, downloads, progress
from cloud.registry.deployments import Wish
from cloud.registry.downloads import Download
from cloud.registry.explain import DeviceState
from cloud.rollouts import documents
from runtime import messages

router = APIRouter(prefix="/deployments", tags=["deployments"], route_class=Route)

MAX_DEVICES = 1000
DeviceLimit = Annotated[int, Query(ge=1, le=MAX_DEVICES)]


@router.post("", status_code=201)
def create(
    body: shapes.NewDeployment, session: WriteSession, services: ServicesDep, actor: ActorDep
) -> shapes.Deployment:
    """Make a deployment; devices that match are told at once, later ones when they enrol."""
    beside = body.candidate
    wish = Wish(
        model=body.model,
        selector=body.selector,
        version=body.version,
        module=body.module,
        sources=None if body.sources is None else tuple(body.sources),
        capture=messages.Capture(outputs=body.capture.outputs, inputs=body.capture.inputs),
        soak_s=body.soak_s,
        download=Download(**body.download.model_dump()),
        name=body.name,
        candidate=None
        if beside is None
        else documents.candidate(beside, beside.model, beside.version),
    )
    return _deployment(deployments.create(session, wish, actor=actor, now=services.clock.now()))


@router.get("")
def list_deployments(
    session: ReadSession, cursor: Cursor = None, limit: Limit = 50
) -> schema.Page[shapes.Deployment]:
    """Return deployments, newest first."""
    found = deployments.page(session, before=dependencies.sequence(cursor), limit=limit)
    following = str(found[-1].sequence) if len(found) == limit else None
    return schema.Page(items=[_deployment(row) for row in found], next=following)


@router.get("/{deployment}")
def show(
    *,
    deployment: str,
    session: ReadSession,
    services: ServicesDep,
    give: ShownDep,
    cursor: Cursor = None,
    limit: DeviceLimit = MAX_DEVICES,
) -> shapes.DeploymentDetail:
    """Return a deployment, how far it is, and for each device where it is and why."""
    row = deployments.get(session, deployment)
    found = progress.states(
        session, row, lease_s=services.settings.lease_s, now=services.clock.now()
    )
    shown = [state for state in found if state.device > (cursor or "")][: limit + 1]
    following = shown[limit - 1].device if len(shown) > limit else None
    answer = shapes.DeploymentDetail(
        deployment=_deployment(row),
        overview=shapes.Overview(**dataclasses.asdict(progress.overview(found))),
        devices=[_progress(state) for state in shown[:limit]],
        next=following,
    )
    return give(answer, row.revision)


class _Change:
    """A request that changes a deployment, unless it is another than the client knows."""

    def __init__(
        self,
        *,
        session: WriteSession,
        services: ServicesDep,
        actor: ActorDep,
        unchanged: UnchangedDep,
        answered: AnsweredDep,
    ) -> None:
        self._session, self._services, self._actor = session, services, actor
        self._unchanged, self._answered = unchanged, answered

    def of(self, deployment: str, act: Callable[..., tables.Deployment]) -> shapes.Deployment:
        """Have it changed; return what it is then."""
        self._unchanged(deployments.get(self._session, deployment).revision)
        now = self._services.clock.now()
        row = act(self._session, deployment, actor=self._actor, now=now)
        return self._answered(_deployment(row), row.revision)


ChangeDep = Annotated[_Change, Depends(_Change, scope="function")]


@router.post("/{deployment}/cancel")
def cancel(deployment: str, change: ChangeDep) -> shapes.Deployment:
    """Withdraw a deployment: the one before decides again. Doing it again changes nothing."""
    return change.of(deployment, deployments.cancel)


@router.post("/{deployment}/retry")
def retry(deployment: str, change: ChangeDep) -> shapes.Deployment:
    """Have devices that refused the bundle try it once more."""
    return change.of(deployment, deployments.retry)


@router.post("/{deployment}/promote")
def promote(deployment: str, change: ChangeDep) -> shapes.Deployment:
    """Make the candidate the version on every device; those that have it swap without a gap."""
    return change.of(deployment, deployments.promote)


def _deployment(row: tables.Deployment) -> shapes.Deployment:
    capture = msgspec.convert(row.capture, messages.Capture)
    return shapes.Deployment(
        id=row.id,
        name=row.name,
        model=row.model,
        version=row.version,
        alias=row.alias,
        bundle=row.bundle,
        module=row.module,
        selector=row.selector,
        sources=row.sources,
        capture=shapes.Capture(outputs=capture.outputs, inputs=capture.inputs),
        soak_s=row.soak_s,
        candidate=row.candidate and shapes.Candidate.model_validate(row.candidate),
        download=shapes.Download.model_validate(row.capture.get(downloads.KEY, {})),
        attempt=row.attempt,
        created_at=row.created_at,
        created_by=row.created_by,
        cancelled_at=row.cancelled_at,
    )


def _progress(state: DeviceState) -> shapes.DeviceProgress:
    running = state.running
    return shapes.DeviceProgress(
        device=state.device,
        stage=state.stage.value,
        reason=state.reason,
        age_s=state.age_s,
        presence=state.presence.value,
        running=running
        and shapes.Running(bundle=running.bundle, model=running.model, version=running.version),
        generation_lag=state.generation_lag,
        retrying=state.retrying,
        healthy=state.healthy,
        candidate=state.candidate
        and shapes.CandidateState.model_validate(msgspec.to_builtins(state.candidate)),
    )
