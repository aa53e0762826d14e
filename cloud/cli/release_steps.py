"""Does a release, step by step, and ends at the first that fails.

Doing it again goes on: what is registered is not registered again, a service or a deployment that
is as it shall be is left alone, and only looked at. A service that answers the check wrongly is
rolled back; devices need no such thing, since each runs the check before it switches.
"""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cloud import shapes
from cloud.cli import pushing, service_deploying
from cloud.cli import service_watching as services
from cloud.cli import watching as deployments
from cloud.client import Client
from cloud.errors import AbsentError, ClientError, WaitError
from cloud.releasing import gates, plan, report
from cloud.releasing.gates import Facts, Gate
from cloud.releasing.plan import Plan, ServiceWish
from cloud.releasing.report import Outcome, Report, Step
from cloud.verification import devices as on_devices
from cloud.verification import here
from cloud.verification import services as on_services
from cloud.verification.devices import Connect
from runtime.errors import InvalidError, ModelError, PackhorseError
from runtime.wording import counted

BACK_S = 60.0
"""A service that is rolled back gets so long for it, even when the release's time is over."""
HOLDING = "holding"


@dataclass(frozen=True)
class Done:
    """What a step did."""

    text: str
    changed: bool = True
    facts: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Ended:
    """A release, and what ended it before its time."""

    report: Report
    error: PackhorseError | None


class Release:
    """One run of a plan."""

    def __init__(
        self, plan: Plan, connect: Connect, tell: Callable[[str], None] = lambda _text: None
    ) -> None:
        """`tell` is told what begins."""
        self._plan, self._connect, self._tell = plan, connect, tell
        self._deadline = time.monotonic() + plan.timeout_s
        self._version: shapes.Registered | None = None
        self._revision = ""

    def run(self) -> Ended:
        """Do every step; never raises PackhorseError."""
        done: list[Step] = []
        names = self._plan.steps
        for place, name in enumerate(names):
            self._tell(f"{name} ...")
            began = time.monotonic()
            try:
                with self._connect() as registry:
                    made = _STEPS[name](self, registry)
            except PackhorseError as error:
                failed = Step(name, Outcome.FAILED, str(error), time.monotonic() - began)
                steps = (*done, failed, *report.skipped(names[place + 1 :]))
                return Ended(Report(self._name, steps), error)
            outcome = Outcome.DONE if made.changed else Outcome.UNCHANGED
            done.append(Step(name, outcome, made.text, time.monotonic() - began, made.facts))
            self._tell(f"{name}: {made.text}")
        return Ended(Report(self._name, tuple(done)), None)

    @property
    def _name(self) -> str:
        made = self._version
        return self._plan.built.index.name if made is None else f"{made.model}:{made.version}"

    @property
    def _left_s(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise WaitError(f"release: not done within {self._plan.timeout_s:g} s: run it again")
        return left

    def _registered(self) -> shapes.Registered:
        assert self._version is not None, "registered by the step before"
        return self._version

    def _service(self) -> ServiceWish:
        assert self._plan.service is not None, "a step of plans with a service"
        return self._plan.service

    def check(self, registry: Client) -> Done:
        """Run the check here, and judge the gates."""
        built, said = self._plan.built, self._plan.said
        result = here.run(built)
        has_check = built.index.check is not None
        metadata = {**built.index.metadata, **((said.metadata or {}) if said else {})}
        facts = Facts(
            metadata,
            sum(entry.size for entry in built.index.files),
            check=("" if result.ok else result.text) if has_check else None,
            p95_ms=result.p95_ms if has_check and result.ok else None,
        )
        if not result.ok:
            raise ModelError(f"check: {result.text}")
        others = _others(registry, built.index.name, self._plan.gates)
        verdicts = [gates.judge(gate, facts, others) for gate in self._plan.gates]
        missed = [f"{verdict.gate}: {verdict.text}" for verdict in verdicts if not verdict.ok]
        if missed:
            raise ModelError(f"gates missed: {'; '.join(missed)}")
        met = f"; {len(verdicts)} gates met" if verdicts else ""
        return Done(result.text + met, facts={each.gate: each.text for each in verdicts})

    def register(self, registry: Client) -> Done:
        """Register the version, unless it is the newest already."""
        made = pushing.send(registry, self._plan.built, self._plan.said).registered
        self._version = made
        facts = {"version": made.version, "bundle": made.bundle}
        return Done(f"{made.model}:{made.version}", changed=made.created, facts=facts)

    def service(self, registry: Client) -> Done:
        """Have the service serve the version, and wait until it does."""
        wish, version = self._service(), self._registered()
        made = _ask_for(registry, wish, version)
        self._revision = made.service.current
        detail = services.wait(registry, wish.name, revision=self._revision, timeout_s=self._left_s)
        services.raise_unless_up(detail, self._revision)
        changed = made.created or bool(made.changed)
        where = ", ".join(detail.endpoints)
        facts = {"revision": self._revision, "endpoints": detail.endpoints}
        return Done(f"{wish.name} {self._revision} at {where}", changed=changed, facts=facts)

    def verify_service(self, registry: Client) -> Done:
        """Ask the service its check; if it answers wrongly, roll it back."""
        name = self._service().name
        if self._plan.built.index.check is None:
            return Done("the bundle has no check", changed=False)
        finding = on_services.verify(
            registry, name, revision=self._revision, timeout_s=min(60.0, self._left_s)
        )
        if not finding.asked:
            raise WaitError(f"{finding.where}: {finding.text}")
        if not finding.ok:
            after = self._roll_back(registry, name)
            raise ModelError(f"{finding.where}: {finding.text}: {after}")
        return Done(finding.text)

    def _roll_back(self, registry: Client, name: str) -> str:
        """Have a service go back to what it served before; return what came of it."""
        try:
            made = registry.roll_service_back(name, shapes.NewRollback.make())
        except ClientError as error:
            return f"it stays, since there is no way back: {error}"
        timeout_s = max(BACK_S, self._deadline - time.monotonic())
        detail = services.wait(registry, name, revision=made.current, timeout_s=timeout_s)
        done = detail.settled and detail.rollout is None
        return "it was rolled back" if done else "it is being rolled back"

    def promote(self, registry: Client) -> Done:
        """Give the version all the traffic, if it waits for somebody's word."""
        name = self._service().name
        present = registry.service(name)
        if present.rollout is None or present.rollout.phase != HOLDING:
            return Done(f"{self._revision} has the traffic", changed=False)
        registry.promote_service(name)
        detail = services.wait(registry, name, revision=self._revision, timeout_s=self._left_s)
        services.raise_unless_up(detail, self._revision)
        return Done(f"{self._revision} has the traffic")

    def devices(self, registry: Client) -> Done:
        """Have the devices run the version, and wait until each does."""
        version, selector = self._registered(), self._plan.selector or ""
        found = _deployment_of(registry, version, selector)
        made = found or registry.deploy(
            shapes.NewDeployment.make(
                model=version.model,
                version=version.version,
                selector=selector,
                soak_s=self._plan.soak_s,
            )
        )
        detail = deployments.watch(registry, made.id, timeout_s=self._left_s)
        deployments.raise_unless_complete(detail)
        facts = {"deployment": made.id, "devices": detail.overview.selected}
        text = f"{made.id}: {deployments.summary(detail)}"
        return Done(text, changed=found is None, facts=facts)

    def verify_devices(self, registry: Client) -> Done:
        """Have every device run the check once more, in the worker that answers."""
        version = self._registered()
        if self._plan.built.index.check is None:
            return Done("the bundle has no check", changed=False)
        places = on_devices.running(registry, version.bundle, self._plan.selector, ())
        findings = list(
            on_devices.verify(
                self._connect, version.bundle, places, timeout_s=min(60.0, self._left_s)
            )
        )
        for finding in findings:
            if not finding.ok:
                kind = ModelError if finding.asked else WaitError
                raise kind(f"{finding.where}: {finding.text}")
        return Done(f"{counted(len(findings), 'device gives', 'devices give')} the golden answers")

    def alias(self, registry: Client) -> Done:
        """Have names mean the version from now on."""
        version = self._registered()
        before = {each.name: each.version for each in registry.aliases(version.model)}
        moved = [name for name in self._plan.aliases if before.get(name) != version.version]
        for name in moved:
            registry.set_alias(version.model, name, str(version.version))
        return Done(", ".join(f"@{name}" for name in self._plan.aliases), changed=bool(moved))


_STEPS: Mapping[str, Callable[[Release, Client], Done]] = {
    plan.CHECK: Release.check,
    plan.REGISTER: Release.register,
    plan.SERVICE: Release.service,
    plan.VERIFY_SERVICE: Release.verify_service,
    plan.PROMOTE: Release.promote,
    plan.DEVICES: Release.devices,
    plan.VERIFY_DEVICES: Release.verify_devices,
    plan.ALIAS: Release.alias,
}


def _others(registry: Client, model: str, wanted: Sequence[Gate]) -> dict[str, Facts]:
    """Return what is known of the versions that gates compare with, as far as they are there."""
    found = {}
    for alias in {gate.alias for gate in wanted if gate.alias is not None}:
        with contextlib.suppress(AbsentError):
            version = registry.version(model, alias)
            found[alias] = Facts(version.metadata, version.size_bytes)
    return found


def _ask_for(registry: Client, wish: ServiceWish, version: shapes.Registered) -> shapes.ServiceMade:
    """Have a service serve a version: change the one that is there, or make it."""
    what = {"model": version.model, "version": version.version}
    try:
        present = registry.service(wish.name)
    except AbsentError:
        if wish.target is None:
            fix = f"there is no service {wish.name}: give --target docker or kubernetes to make it"
            raise InvalidError("--target", None, fix) from None
        new = {**what, **wish.changes, "name": wish.name, "target": wish.target, "update": True}
        return registry.deploy_service(shapes.NewService.make(**new))
    _require_there(wish, present)
    changes = {**what, **_on_top(service_deploying.before(present), wish.changes)}
    return registry.change_service(wish.name, changes, revision=present.revision)


def _require_there(wish: ServiceWish, present: shapes.ServiceDetail) -> None:
    """Raise InvalidError if a service is to be made elsewhere than where it is."""
    has = present.target.model_dump()
    for option, value in (wish.target or {}).items():
        if value is not None and value != has[option]:
            name = "--target" if option == "kind" else f"--{option}"
            fix = f"{wish.name} runs on {present.place}: leave it out, or delete the service first"
            raise InvalidError(name, value, fix)


def _on_top(before: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return changes with what they leave of each part of a service as it was."""
    parts = {name: {**(before[name] or {}), **changes[name]} for name in before.keys() & changes}
    return {**changes, **parts}


def _deployment_of(
    registry: Client, version: shapes.Registered, selector: str
) -> shapes.Deployment | None:
    """Return the deployment that decides this module on these devices, if it is of the version."""
    for each in registry.deployments():
        here = (each.module, each.selector) == (version.model, selector)
        if here and each.cancelled_at is None:
            return each if each.version == version.version else None
    return None
