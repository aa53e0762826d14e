"""Services as an operator has them, on a real engine, under the load of a client.

    packhorse ── registry (a process) ── engine of this module's own
                                            └─ client that tries nothing twice

Each test makes of the service what it needs, whatever the one before left.
"""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud.shapes import ServiceReason
from runtime.containers.engine import Engine
from runtime.containers.specs import Address, ContainerSeen
from tests.support import engines, servicefleets
from tests.support.commands import Command
from tests.support.fleets import Fleet, Said
from tests.support.processes import eventually
from tests.support.servicefleets import factor, until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

MODEL = SERVICE = "mill"
CANARY = (
    *("--strategy", "canary", "--steps", "50,100", "--step-time", "2s", "--soak", "1s"),
    *("--min-requests", "20", "--max-p95-ratio", "1000"),
)
FEARS_NEGATIVES = """
def init(context):
    global predict
    predict = context.predict

def run(inputs):
    if (inputs["x"] < 0).any():
        raise ValueError("no square root of it")
    return predict(inputs)
"""
CRASHES = """
def init(context):
    raise RuntimeError("the lookup table lies on the trainer's disk")

def run(inputs):
    return inputs
"""


@pytest.fixture(scope="module")
def rig(engine: Engine, gateway_image: str) -> Iterator[engines.Rig]:
    """An engine that may be restarted, and of which images may go."""
    with engines.alone(images=engine, names=[gateway_image, engines.BASE]) as made:
        yield made


@pytest.fixture(scope="module")
def own(rig: engines.Rig) -> Iterator[Engine]:
    made = Engine(Address(rig.url))
    yield made
    made.close()


@pytest.fixture(scope="module")
def fleet(rig: engines.Rig) -> Iterator[Fleet]:
    with servicefleets.fleet(rig) as made:
        for each in (2.0, 3.0):
            made.push(MODEL, factor=each)
        made.push(MODEL, factor=7.0, change=scripted(FEARS_NEGATIVES))
        made.push(MODEL, factor=9.0, change=scripted(CRASHES))
        yield made


def scripted(script: str) -> Any:
    def add(directory: Path) -> None:
        (directory / "score.py").write_text(script)
        with (directory / "bundle.yaml").open("a") as file:
            file.write("entry: score.py\n")

    return add


@pytest.fixture(scope="module")
def key(fleet: Fleet) -> str:
    """The key of the service, which is made with it."""
    file = fleet.place / "key"
    made = fleet.packhorse(
        *("services", "deploy", SERVICE, "--bundle", f"{MODEL}:1", "--target", "docker"),
        *("--key-file", str(file)),
    )
    assert made.code == 0, made.err
    key = file.read_text().strip()
    assert key not in made.out + made.err
    return key


def update(fleet: Fleet, version: int, *more: str) -> Said:
    return fleet.packhorse("services", "update", SERVICE, "--bundle", f"{MODEL}:{version}", *more)


@pytest.fixture
def serving(fleet: Fleet, key: str) -> str:
    """Have the service serve version 1 with one replica; return its key."""
    done = update(fleet, 1, "--soak", "0s", "--replicas", "1")
    assert done.code == 0, done.err
    until(fleet, SERVICE, lambda seen: seen.rollout is None and seen.settled, "it is settled")
    return key


def replicas(engine: Engine) -> tuple[ContainerSeen, ...]:
    return engine.containers({"packhorse.service": SERVICE, "packhorse.role": "replica"})


def current(fleet: Fleet) -> Any:
    """Return the revision that the service has, or is about to have."""
    detail = fleet.client.service(SERVICE)
    return next(each for each in detail.revisions if each.name == detail.current)


def test_ten_thousand_requests_survive_all_that_an_operator_does(
    fleet: Fleet, own: Engine, serving: str
) -> None:
    old = current(fleet).name
    with servicefleets.asking(fleet, SERVICE, MODEL, serving, clients=3) as load:
        assert update(fleet, 2, "--soak", "2s").code == 0
        eventually(lambda: factor(load) == 3.0, "the update answers")
        new = current(fleet).name

        with servicefleets.asking(fleet, SERVICE, MODEL, serving, clients=1, row=[-1.0] * 4):
            bad = update(fleet, 3, *CANARY)
        assert bad.code == 1
        assert "requests failed" in bad.err

        shared = fleet.packhorse("services", "traffic", SERVICE, f"{old}=50", f"{new}=50")
        assert shared.code == 0, shared.err
        assert fleet.client.service(SERVICE).traffic == {old: 50, new: 50}
        back = fleet.packhorse("services", "rollback", SERVICE, "--to", old)
        assert back.code == 0, back.err
        for _ in range(20):
            load.last = None
            eventually(lambda: load.last is not None, "it answers")
            assert factor(load) == 2.0

        for count in (3, 1):
            scaled = fleet.packhorse("services", "scale", SERVICE, "--replicas", str(count))
            assert scaled.code == 0, scaled.err
            eventually(lambda count=count: len(replicas(own)) == count, f"{count} replicas", 120)
        eventually(lambda: load.answers >= 10_000, "ten thousand answers", 180)

    assert load.failures == []


def test_a_registry_killed_in_the_middle_of_an_update_goes_on_when_it_is_back(
    fleet: Fleet, serving: str
) -> None:
    with servicefleets.asking(fleet, SERVICE, MODEL, serving) as load:
        assert update(fleet, 2, *CANARY, "--no-wait").code == 0
        wanted = current(fleet).name
        kill(fleet)
        before = load.answers
        eventually(lambda: load.answers > before + 50, "it answers without its registry")
        fleet.registry.start()
        until(fleet, SERVICE, lambda seen: seen.traffic.get(wanted) == 50, "the half is moved")
        kill(fleet)
        fleet.registry.start()
        until(fleet, SERVICE, lambda seen: seen.rollout is None and seen.settled, "it is done")
        eventually(lambda: factor(load) == 3.0, "the new version answers")

    assert load.failures == []
    assert fleet.client.service(SERVICE).traffic == {wanted: 100}


def kill(fleet: Fleet) -> None:
    """End the registry as a power cut does."""
    fleet.registry.kill()


def test_replicas_that_are_killed_and_images_that_are_gone_come_back_without_a_failed_request(
    fleet: Fleet, own: Engine, serving: str
) -> None:
    assert fleet.packhorse("services", "scale", SERVICE, "--replicas", "2").code == 0
    until(fleet, SERVICE, lambda seen: seen.settled and current(fleet).ready == 2, "two answer")
    with servicefleets.asking(fleet, SERVICE, MODEL, serving) as load:
        victim = replicas(own)[0]
        pid = own._api.inspect_container(victim.id)["State"]["Pid"]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: restarted(own, victim), "the engine started it again")
        until(fleet, SERVICE, lambda seen: seen.settled and current(fleet).ready == 2, "two again")

        forget_images(own, MODEL)
        assert fleet.packhorse("services", "scale", SERVICE, "--replicas", "3").code == 0
        until(fleet, SERVICE, lambda _seen: current(fleet).ready == 3, "it was made again")

    assert load.failures == []


def restarted(engine: Engine, container: ContainerSeen) -> bool:
    seen = engine.container(container.id)
    return seen is not None and seen.running and seen.restarts > 0


def forget_images(engine: Engine, word: str) -> None:
    """Take away every name of the images that are called so."""
    for image in engine._api.images():
        for name in (*(image["RepoTags"] or ()), *(image["RepoDigests"] or ())):
            if word in name:
                engine._api.remove_image(name, force=True)
    assert not [i for i in engine._api.images() if any(word in t for t in i["RepoTags"] or ())]


def test_all_is_there_again_after_the_engine_was_restarted(
    fleet: Fleet, rig: engines.Rig, serving: str
) -> None:
    rig.stop()
    until(fleet, SERVICE, lambda seen: seen.trouble, "the registry knows")
    assert fleet.client.service(SERVICE).condition != "ready"
    rig.start()
    until(fleet, SERVICE, lambda seen: seen.settled, "it is ready again")

    with servicefleets.asking(fleet, SERVICE, MODEL, serving) as load:
        eventually(lambda: load.answers > 20, "it answers")
    assert load.failures == []


def test_a_version_that_crashes_says_with_what_and_an_operator_need_not_wait(
    fleet: Fleet, serving: str
) -> None:
    before = fleet.client.service(SERVICE).current
    with servicefleets.asking(fleet, SERVICE, MODEL, serving) as load:
        assert update(fleet, 4, "--no-wait").code == 0
        crashing = current(fleet).name
        said: list[ServiceReason] = []

        def why() -> bool:
            said[:] = last_words(fleet, crashing)
            return bool(said)

        eventually(why, "it says why", 120)
        reason = said[0]
        logs = fleet.packhorse("services", "logs", SERVICE, "--revision", crashing)
        back = fleet.packhorse("services", "rollback", SERVICE)

    assert load.failures == []
    assert reason.exit_code == 1
    assert any("trainer's disk" in line for line in reason.last_log)
    assert "trainer's disk" in logs.out
    assert back.code == 0, back.err
    assert fleet.client.service(SERVICE).traffic == {before: 100}


def last_words(fleet: Fleet, revision: str) -> list[ServiceReason]:
    """Return the reasons of a revision that has ended, with what it wrote last."""
    found = {each.name: each for each in fleet.client.service(SERVICE).revisions}
    return [each for each in found[revision].reasons if each.last_log and each.exit_code]


def test_logs_are_followed_also_of_replicas_that_come_later(
    fleet: Fleet, own: Engine, serving: str
) -> None:
    following = Command(
        "packhorse", ["services", "logs", SERVICE, "-f", "--json"], fleet.place / "follow.log"
    )
    following.environment = {"PACKHORSE_CONFIG": str(fleet.config)}
    following.spawn()
    try:
        eventually(lambda: len(heard(following)) == 1, "the first one is heard")
        assert fleet.packhorse("services", "scale", SERVICE, "--replicas", "2").code == 0
        eventually(lambda: len(heard(following)) == 2, "the second one is heard")
    finally:
        following.kill()
    assert heard(following) <= {each.name for each in replicas(own)}
    assert serving not in following.tail(100_000)


def heard(following: Command) -> set[str]:
    """Return which replicas were heard of."""
    lines = following.tail(100_000).splitlines()
    return {json.loads(line)["replica"] for line in lines if line.endswith("}")}


def test_a_version_that_is_served_cannot_be_deleted_and_what_was_served_stays_known(
    fleet: Fleet, own: Engine, serving: str
) -> None:
    refused = fleet.packhorse("models", "delete", f"{MODEL}:1", "--yes")
    assert refused.code != 0
    assert SERVICE in refused.complaint

    deleted = fleet.packhorse("services", "delete", SERVICE)
    assert deleted.code == 0, deleted.err
    mark = {"packhorse.service": SERVICE}
    assert (own.containers(mark), own.networks(mark), own.volumes(mark)) == ((), (), {})
    history = json.loads(
        fleet.packhorse("history", "--service", SERVICE, "--json", "-n", "200").out
    )
    assert history[0]["version"] == 1
    assert all(each["until_at"] is not None for each in history)
    events = fleet.packhorse("events", "--subject", SERVICE, "-n", "200", "--json").out
    kinds = {json.loads(line)["kind"] for line in events.splitlines()}
    assert {"service.created", "service.ready", "service.deleted", "service.removed"} <= kinds
    assert not fleet.packhorse("models", "delete", f"{MODEL}:1", "--yes").code
    assert serving not in events
