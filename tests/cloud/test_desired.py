from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from cloud import tables
from cloud.registry import desired, hearing, intents
from cloud.registry.hearing import Word
from cloud.registry.intents import Intent, Target
from cloud.services import Change
from runtime.digests import Digest
from runtime.messages import Desired, ModuleReport, ModuleSpec, Phase, Presence, Reported
from runtime.topics import DeviceId
from tests.support import registries
from tests.support.registries import Registry, Stores

ONE = DeviceId("one")


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores) as running:
        yield running


def intent(sequence: int, selector: str, module: str = "m") -> Intent:
    spec = ModuleSpec(module, Digest("a" * 64), module, sequence, f"dep-{sequence}")
    return Intent(sequence, selector, spec)


def wanted(registry: Registry, device: str) -> Desired:
    with registry.services.reading() as session:
        found = desired.read(session, DeviceId(device))
    assert found is not None
    return found


def deploy(registry: Registry, selector: str, **body: object) -> str:
    wish = {"model": "m", "selector": selector, **body}
    made: str = registry.post("/api/v1/deployments", wish, 201)["id"]
    return made


def test_the_newest_deployment_wins_for_each_module_by_itself() -> None:
    device = Target("one", {"site": "lab"}, {"arch": "arm"})
    wishes = [intent(3, "arch=arm"), intent(1, "all"), intent(2, "all", "n"), intent(9, "site=x")]
    modules = intents.desired_for(device, wishes)

    assert [(spec.name, spec.version) for spec in modules] == [("m", 3), ("n", 2)]
    assert modules == intents.desired_for(device, reversed(wishes))


def test_labels_win_over_facts_and_the_id_over_both() -> None:
    device = Target("one", {"arch": "label", "device": "label"}, {"arch": "fact", "os": "linux"})

    assert device.attributes == {"arch": "label", "os": "linux", "device": "one"}


def test_a_revoked_device_shall_run_nothing() -> None:
    assert intents.desired_for(Target("one", {}, {}, revoked=True), [intent(1, "all")]) == ()


def test_a_deployment_reaches_devices_that_match_now_and_later(registry: Registry) -> None:
    made = registry.register("m", b"1")
    registry.enrol("one", labels={"site": "lab"})
    registry.enrol("other", labels={"site": "far"})
    deployment = deploy(registry, "site=lab", sources=["directory:inbox"], soak_s=1)
    registry.enrol("two", labels={"site": "lab"})

    (module,) = wanted(registry, "one").modules
    assert (module.bundle, module.version, module.deployment) == (made["bundle"], 1, deployment)
    assert (module.sources, module.soak_s) == (("directory:inbox",), 1)
    assert wanted(registry, "two").modules == (module,)
    assert wanted(registry, "other").modules == ()
    assert wanted(registry, "one").generation == 2
    assert wanted(registry, "other").generation == 1


def test_what_a_device_shall_run_follows_its_labels(registry: Registry) -> None:
    registry.register("m", b"1")
    registry.enrol("one")
    deploy(registry, "site=lab")
    path = "/api/v1/devices/one/labels"
    registry.http.patch(path, json={"labels": {"site": "lab"}})
    assert len(wanted(registry, "one").modules) == 1
    registry.http.patch(path, json={"labels": {"site": "lab", "floor": "1"}})
    assert wanted(registry, "one").generation == 2
    registry.http.patch(path, json={"labels": {"site": None}})

    assert wanted(registry, "one").modules == ()
    assert wanted(registry, "one").generation == 3
    assert registry.get("/api/v1/devices/one")["labels"] == {"floor": "1"}


def test_what_a_device_shall_run_follows_its_facts(registry: Registry) -> None:
    registry.register("m", b"1")
    registry.enrol("one", facts={"arch": "x"})
    deploy(registry, "arch=y")
    report = Reported(device="one", generation=1, at=1.0, facts={"arch": "y"})
    with registry.services.transaction() as session:
        hearing.take_over(session, [Word(ONE, report, 2.0)])

    assert len(wanted(registry, "one").modules) == 1


def test_cancelling_brings_back_what_was_before(registry: Registry) -> None:
    registry.register("m", b"1")
    registry.enrol("one")
    first = deploy(registry, "all")
    registry.register("m", b"2")
    second = deploy(registry, "all")
    assert wanted(registry, "one").modules[0].version == 2
    registry.post(f"/api/v1/deployments/{second}/cancel")
    registry.post(f"/api/v1/deployments/{second}/cancel")
    assert wanted(registry, "one").modules[0].deployment == first
    registry.post(f"/api/v1/deployments/{first}/cancel")

    assert wanted(registry, "one").modules == ()
    assert wanted(registry, "one").generation == 5


def test_a_retry_raises_the_attempt_and_nothing_else(registry: Registry) -> None:
    registry.register("m", b"1")
    registry.enrol("one")
    deployment = deploy(registry, "all")
    before = wanted(registry, "one").modules[0]
    registry.post(f"/api/v1/deployments/{deployment}/retry")
    after = wanted(registry, "one").modules[0]

    assert (before.attempt, after.attempt) == (0, 1)
    assert before.bundle == after.bundle
    registry.post(f"/api/v1/deployments/{deployment}/cancel")
    assert registry.http.post(f"/api/v1/deployments/{deployment}/retry").status_code == 409


def test_revoking_empties_the_desired_state(registry: Registry) -> None:
    registry.register("m", b"1")
    registry.enrol("one")
    deploy(registry, "all")
    registry.post("/api/v1/devices/one/revoke")

    assert wanted(registry, "one").modules == ()


def test_the_publisher_is_told_of_changes_only(registry: Registry) -> None:
    told: list[None] = []
    registry.services.notifier.subscribe(Change.DESIRED, lambda: told.append(None))
    registry.register("m", b"1")
    registry.enrol("one")
    assert len(told) == 1
    deploy(registry, "site=nowhere")
    assert len(told) == 1
    deploy(registry, "all")
    assert len(told) == 2


def test_rows_lag_until_the_broker_has_their_newest_generation(registry: Registry) -> None:
    registry.enrol("one")

    def lagging() -> list[str]:
        with registry.services.reading() as session:
            return [device for device, _, _ in desired.to_publish(session)]

    assert lagging() == ["one"]
    with registry.services.transaction() as session:
        desired.mark_published(session, {ONE: 1})
    assert lagging() == []
    with registry.services.transaction() as session:
        desired.renew(session, ONE, now=1.0)
        desired.mark_published(session, {ONE: 1})
    assert lagging() == ["one"]
    with registry.services.transaction() as session:
        desired.mark_published(session, {ONE: 2})
        desired.mark_published(session, {ONE: 1})
    assert lagging() == []
    with registry.services.transaction() as session:
        desired.mark_unpublished(session, ONE)
    assert lagging() == ["one"]


def test_only_named_devices_are_recomputed(registry: Registry) -> None:
    registry.register("m", b"1")
    registry.enrol("one")
    registry.enrol("two")
    deploy(registry, "all")
    with registry.services.transaction() as session:
        for row in session.exec(select(tables.Deployment)):
            row.cancelled_at = 1.0
        session.flush()
        changed = desired.recompute(session, [ONE, DeviceId("absent")], now=1.0)

    assert changed == ["one"]
    assert len(wanted(registry, "two").modules) == 1


def test_arriving_and_failing_go_into_the_history_once(registry: Registry) -> None:
    registry.enrol("one")

    def report(phase: Phase, attempt: int = 0) -> None:
        module = ModuleReport(
            "m", phase, Digest("a" * 64), "m", 1, "dep-1", 1.0, reason="why", attempt=attempt
        )
        words = Reported(device="one", generation=1, at=1.0, modules=(module,))
        with registry.services.transaction() as session:
            hearing.take_over(session, [Word(ONE, words, 2.0)])

    for phase in (Phase.CHECKING, Phase.FAILED, Phase.FAILED, Phase.CHECKING, Phase.RUNNING):
        report(phase)
    report(Phase.RUNNING)
    report(Phase.RUNNING, attempt=1)
    kinds = [each["kind"] for each in registry.get("/api/v1/events?subject=one")["items"]]

    assert kinds[:2] == ["device.enrolled", "device.online"]
    assert kinds[2:] == ["device.failed", "device.converged", "device.converged"]


def test_a_device_that_restarts_tells_no_end_twice(registry: Registry) -> None:
    registry.enrol("one")

    def report(phase: Phase, *, name: str = "m", deployment: str = "dep-1") -> None:
        module = ModuleReport(name, phase, Digest("a" * 64), "m", 1, deployment, 1.0, reason="why")
        words = Reported(device="one", generation=1, at=1.0, modules=(module,))
        with registry.services.transaction() as session:
            hearing.take_over(session, [Word(ONE, words, 2.0)])

    def ends() -> list[tuple[str, str, str]]:
        found = registry.get("/api/v1/events?subject=one&kind=device.converged&kind=device.failed")
        return [
            (each["kind"], each["data"]["module"], each["data"]["deployment"])
            for each in found["items"]
        ]

    for phase in (Phase.RUNNING, Phase.STAGED, Phase.RUNNING, Phase.STAGED, Phase.RUNNING):
        report(phase)
    assert ends() == [("device.converged", "m", "dep-1")]

    report(Phase.RUNNING, name="n")
    report(Phase.STAGED)
    report(Phase.RUNNING)
    report(Phase.FAILED)
    report(Phase.STAGED)
    report(Phase.FAILED)
    report(Phase.RUNNING)
    report(Phase.RUNNING, deployment="dep-2")
    assert ends()[1:] == [
        ("device.converged", "n", "dep-1"),
        ("device.failed", "m", "dep-1"),
        ("device.converged", "m", "dep-1"),
        ("device.converged", "m", "dep-2"),
    ]


def test_presence_has_a_lease(registry: Registry) -> None:
    registry.enrol("one")

    def presence() -> str:
        found: str = registry.get("/api/v1/devices/one")["presence"]
        return found

    with registry.services.transaction() as session:
        word = Presence(online=True, at=1.0, lease_s=60)
        hearing.take_over(session, [Word(ONE, word, registry.clock.at)])
    assert presence() == "online"
    registry.clock.at += 61
    assert presence() == "unknown"
    with registry.services.transaction() as session:
        heartbeat = Reported(device=ONE, generation=0, at=1.0)
        hearing.take_over(session, [Word(ONE, heartbeat, registry.clock.at)])
    assert presence() == "online"
    with registry.services.transaction() as session:
        word = Presence(online=False, at=1.0, lease_s=60)
        hearing.take_over(session, [Word(ONE, word, registry.clock.at)])
    assert presence() == "offline"
