"""What goes wrong on a real engine: told truthfully, and mended by applying again."""

import contextlib
import dataclasses
import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from cloud.hosting.docker.target import DockerTarget
from cloud.hosting.errors import UnreachableError
from cloud.hosting.targets import Condition, Observed, Reason, Resources
from runtime.containers.engine import Engine
from runtime.containers.errors import EngineUnreachableError
from runtime.containers.specs import Address, ContainerSeen
from runtime.errors import InvalidError
from tests.support import dockerservices, engines, standins
from tests.support.asking import asking
from tests.support.brokers import eventually
from tests.support.dockerservices import Service, revision

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def target(engine_rig: engines.Rig) -> Iterator[DockerTarget]:
    made = DockerTarget(Engine(Address(engine_rig.url)))
    yield made
    made.close()


@pytest.fixture(scope="module")
def stand_in(engine: Engine, gateway_image: str) -> str:
    return standins.make(engine, gateway_image)


@pytest.fixture(scope="module")
def service(
    engine: Engine, target: DockerTarget, gateway_image: str, stand_in: str
) -> Iterator[Service]:
    """A service with two replicas of r1, whatever the test before did to it."""
    made = dockerservices.new(engine, target, gateway_image, revision(1, stand_in, replicas=2))
    target.apply(made.told)
    yield made
    target.delete(made.name)


@pytest.fixture
def well(service: Service, stand_in: str) -> Service:
    service.tell({1: 100}, revision(1, stand_in, replicas=2))
    service.until_ready()
    return service


def test_a_replica_that_is_killed_fails_no_request_and_comes_back(well: Service) -> None:
    victim = well.containers("replica")[0]
    with asking(well.url) as load:
        os.kill(pid_of(well.engine, victim.id), signal.SIGKILL)
        eventually(lambda: restarted(well.engine, victim.id), "the engine restarted it", 60)
        well.until_ready()

    assert load.failures == []


def pid_of(engine: Engine, container: str) -> int:
    """Return the process id of a container, as this machine sees it."""
    return int(engine._api.inspect_container(container)["State"]["Pid"])


def restarted(engine: Engine, container: str) -> bool:
    seen = engine.container(container)
    return seen is not None and seen.running and seen.restarts > 0


def reasons(seen: Observed) -> tuple[Reason, ...]:
    """Return why r2 does not run."""
    return next(each for each in seen.revisions if each.number == 2).reasons


CRASH = ("crash", {"Exited"}, 1, "the model cannot be loaded: its file is broken")
EAT = ("eat", {"OOMKilled"}, 137, "")


@pytest.mark.parametrize("told", [CRASH, EAT], ids=["crash", "eat"])
def test_a_revision_that_cannot_run_says_why_and_harms_no_other(
    well: Service, stand_in: str, told: tuple[str, set[str], int, str]
) -> None:
    mode, codes, exit_code, said = told
    bad = dataclasses.replace(revision(2, stand_in, MODE=mode), resources=Resources(memory_mb=64))
    with asking(well.url, clients=1) as load:
        well.tell({1: 100, 2: 0}, bad)
        seen = well.until(
            lambda seen: [exit_code] == [each.exit_code for each in reasons(seen)],
            "a reason with its exit code",
        )

    reason = reasons(seen)[0]
    assert reason.code in codes
    assert said in "\n".join(reason.last_log)
    assert load.failures == []
    assert seen.condition is Condition.READY, "its traffic is on r1 alone"


def test_a_revision_whose_image_is_missing_says_so_and_runs_when_it_is_there(
    well: Service, engine: Engine, stand_in: str
) -> None:
    missing = revision(2, "packhorse-test/later:1")

    well.tell({1: 100, 2: 0}, missing)

    seen = {each.number: each for each in well.look().revisions}
    assert seen[2].condition is Condition.FAILING
    assert seen[2].reasons[0].code == "ImageMissing"
    assert "packhorse-test/later:1" in seen[2].reasons[0].text
    assert seen[1].condition is Condition.READY
    engine.images.tag(stand_in, "packhorse-test/later:1")
    well.target.apply(well.told)
    well.until_ready()
    engine.images.remove("packhorse-test/later:1")


def test_what_somebody_removed_or_stopped_is_seen_and_put_back(
    well: Service, engine: Engine
) -> None:
    first, second = well.containers("replica")
    engine.remove(first.id)
    engine.stop(second.id, grace_s=5)

    drifted = " ".join(well.look().revisions[0].drifted)

    assert "1 removed" in drifted
    assert f"{second.name}: stopped" in drifted
    well.target.apply(well.told)
    well.until_ready()


def test_a_gateway_that_somebody_removed_comes_back_at_the_same_address(
    well: Service, engine: Engine
) -> None:
    url = well.url
    for container in well.containers("gateway"):
        engine.remove(container.id)
    assert well.look().condition is Condition.FAILING

    well.target.apply(well.told)

    well.until_ready()
    assert well.url == url


def test_a_configuration_that_no_gateway_takes_changes_nothing(well: Service) -> None:
    config = msgspec.structs.replace(well.told.gateway, timeout_s=-1.0)
    bad = dataclasses.replace(well.told, gateway=config)
    with asking(well.url) as load, pytest.raises(InvalidError, match="timeout_s"):
        well.target.apply(bad)

    assert load.failures == []
    assert well.look().generation == well.told.generation


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_after_the_engine_was_restarted_all_runs_again_and_is_adopted(
    engine: Engine, gateway_image: str, stand_in: str
) -> None:
    with engines.alone(images=engine, names=[gateway_image, stand_in]) as rig:
        own = Engine(Address(rig.url))
        with contextlib.closing(DockerTarget(own)) as target:
            first = revision(1, stand_in, replicas=2)
            made = dockerservices.new(own, target, gateway_image, first)
            target.apply(made.told)
            made.until_ready()
            ids, url = {each.id for each in everything(made)}, made.url

            rig.stop()
            with pytest.raises(UnreachableError):
                made.look()
            # The docker package leaves a socket that could not connect to the collector.
            gc.collect()
            rig.start()

            target.apply(made.told)
            made.until_ready()
            assert {each.id for each in everything(made)} == ids
            with asking(url, clients=1) as load:
                eventually(lambda: load.answers > 5, "it answers at the same address")
            target.delete(made.name)
    assert load.failures == []


def everything(service: Service) -> tuple[ContainerSeen, ...]:
    return (*service.containers("replica"), *service.containers("gateway"))


def test_an_engine_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EngineUnreachableError, match=r"no such socket: start the engine"):
        Engine(Address(f"unix://{tmp_path}/docker.sock"))


@pytest.mark.parametrize("url", ["tcp://127.0.0.1:2375", "ftp://x", "ssh://-oProxyCommand=x"])
def test_an_address_that_is_unsafe_or_none_is_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="docker host"):
        Engine(Address(url))
