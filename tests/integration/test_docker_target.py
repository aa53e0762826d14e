"""Services on a real engine: what is made, and that no change of it fails a request."""

import contextlib
import dataclasses
import json
import threading
from collections.abc import Iterator

import pytest

from cloud.hosting.docker.target import DockerTarget
from cloud.hosting.errors import RefusedError, UnreachableError
from cloud.hosting.targets import Condition, Question, Resources
from runtime.containers.engine import Engine
from runtime.containers.specs import Address
from tests.support import dockerservices, engines, standins
from tests.support.asking import asking
from tests.support.brokers import eventually, free_port
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


@pytest.fixture
def service(
    engine: Engine, target: DockerTarget, gateway_image: str, stand_in: str
) -> Iterator[Service]:
    """A service with one replica that is ready."""
    made = dockerservices.new(engine, target, gateway_image, revision(1, stand_in))
    made.told = dataclasses.replace(made.told, port=None)
    target.apply(made.told)
    made.until_ready()
    yield made
    target.delete(made.name)


def test_no_request_fails_while_replicas_and_revisions_come_and_go_and_traffic_moves(
    service: Service, stand_in: str
) -> None:
    with asking(service.url) as load:
        service.tell({1: 100}, revision(1, stand_in, replicas=2))
        service.until_ready()
        service.tell({1: 100, 2: 0}, revision(2, stand_in))
        service.until_ready()
        service.tell({1: 50, 2: 50}, revision(1, stand_in))
        service.until_ready()
        service.tell({2: 100})
        service.until_ready()
        before = load.answers
        eventually(lambda: load.answers > before + 20, "it answers")

    assert load.failures == []
    assert load.last["REVISION"] == "2"
    assert {each.labels["packhorse.revision"] for each in service.containers("replica")} == {"2"}


def test_no_request_fails_while_the_gateway_is_replaced_and_put_back_on_the_same_port(
    service: Service, engine: Engine, gateway_image: str
) -> None:
    engine.images.tag(gateway_image, "packhorse-test/gateway:other")
    url = service.url
    with asking(url) as load:
        service.tell({1: 100}, gateway_image="packhorse-test/gateway:other")
        eventually(
            lambda: _serving(service) == ["packhorse-test/gateway:other"], "it took over", 90
        )
        service.until_ready()
        service.tell({1: 100}, gateway_image=gateway_image)
        eventually(lambda: _serving(service) == [gateway_image], "it took over again", 90)
        eventually(lambda: len(service.containers("gateway")) == 1, "the other one went", 90)
        before = load.answers
        eventually(lambda: load.answers > before + 20, "it answers")

    assert load.failures == []
    assert service.url == url


def _serving(service: Service) -> list[str]:
    """Return the images of the gateways that take requests."""
    return [each.image_reference for each, _ in service.target._take(service.name).serving]


def test_to_apply_the_same_wish_again_changes_nothing(service: Service) -> None:
    before = service.containers("replica") + service.containers("gateway")

    service.target.apply(service.told)

    assert service.containers("replica") + service.containers("gateway") == before
    assert service.look().generation == service.told.generation


def test_a_container_may_do_nothing_but_its_work(service: Service, engine: Engine) -> None:
    for container in (*service.containers("replica"), *service.containers("gateway")):
        seen = engine._api.inspect_container(container.id)
        host, config = seen["HostConfig"], seen["Config"]
        assert host["CapDrop"] == ["ALL"]
        assert host["SecurityOpt"] == ["no-new-privileges"]
        assert host["ReadonlyRootfs"]
        assert config["User"] == "65532:65532"
        assert host["LogConfig"]["Config"] == {"max-size": "10m", "max-file": "3"}
        assert host["RestartPolicy"]["Name"] == "always"
        published = [bind["HostIp"] for each in host["PortBindings"].values() for bind in each]
        assert set(published) <= {"127.0.0.1"}


def test_limits_are_set_and_put_back_when_somebody_changes_them(
    service: Service, engine: Engine, stand_in: str
) -> None:
    limited = dataclasses.replace(
        revision(2, stand_in), resources=Resources(cpu=0.5, memory_mb=128)
    )
    service.tell({2: 100}, limited)
    service.until_ready()
    container = service.containers("replica")[0]
    assert (container.cpu, container.memory_mb) == (0.5, 128)

    engine.limit(container.id, cpu=1.0, memory_mb=256, restart="no")
    drifted = service.look().revisions[0].drifted

    assert drifted == tuple(
        f"{container.name}: {what}" for what in ("cpu", "memory", "restart policy")
    )
    service.target.apply(service.told)
    again = service.containers("replica")[0]
    assert (again.id, again.cpu, again.memory_mb) == (container.id, 0.5, 128)
    assert service.look().revisions[0].drifted == ()


def test_the_registry_asks_a_revision_that_has_no_traffic_through_the_gateway(
    service: Service, target: DockerTarget, stand_in: str
) -> None:
    service.tell({1: 100, 2: 0}, revision(2, stand_in))
    service.until_ready()

    asked = {n: target.ask(service.name, n, Question("/v2/models/x/infer", b"{}")) for n in (1, 2)}

    assert {n: json.loads(body)["REVISION"] for n, (_, body) in asked.items()} == {1: "1", 2: "2"}
    with pytest.raises(UnreachableError, match="no gateway of it runs"):
        target.ask("nobody-wished-it", 1, Question("/v2", b"{}"))


def test_logs_of_replicas_come_together_and_are_followed(service: Service, stand_in: str) -> None:
    service.tell({1: 100}, revision(1, stand_in, replicas=2))
    service.until_ready()

    said = list(service.target.logs(service.name, revision=None, follow=False, tail=10))
    assert {each.replica for each in said} == {each.name for each in service.containers("replica")}
    assert {each.text for each in said} == {"serving 1"}
    assert all(each.at for each in said)
    following = service.target.logs(service.name, revision=1, follow=True, tail=0)
    service.tell({1: 100}, revision(1, stand_in, replicas=1))
    with contextlib.closing(following):  # type: ignore[type-var]
        assert next(following).text == "draining"


def test_changes_are_told_and_looking_is_no_change(
    service: Service, engine_rig: engines.Rig
) -> None:
    listener = DockerTarget(Engine(Address(engine_rig.url)))
    changes = listener.changes()
    told: list[str] = []

    def listen() -> None:
        for each in changes:
            told.append(each)  # noqa: PERF402 - one by one, as they come

    thread = threading.Thread(target=listen)
    thread.start()
    # A signal that means nothing to the replica is a change all the same.
    replica = service.containers("replica")[0].id
    service.engine.signal(replica, "SIGWINCH")
    eventually(lambda: told.count(service.name) == 1, "it hears of a change")

    service.look()
    service.target.statuses(service.name)
    service.engine.signal(replica, "SIGWINCH")

    eventually(lambda: told.count(service.name) >= 2, "it hears of the next change")
    listener.close()
    thread.join(20)
    assert not thread.is_alive()
    assert told.count(service.name) == 2, "looking alone told nothing"


def test_two_services_do_not_see_each_other_and_one_is_deleted_without_a_trace(
    service: Service, engine: Engine, target: DockerTarget, gateway_image: str, stand_in: str
) -> None:
    other = dockerservices.new(engine, target, gateway_image, revision(1, stand_in))
    target.apply(other.told)
    other.until_ready()
    assert {service.name, other.name} <= set(target.services())
    with asking(service.url) as load:
        target.delete(other.name)

    assert load.failures == []
    assert other.look().condition is Condition.ABSENT
    assert other.name not in target.services()
    mark = {"packhorse.service": other.name}
    assert (engine.containers(mark), engine.networks(mark), engine.volumes(mark)) == ((), (), {})
    target.delete(other.name)


def test_a_wished_port_is_kept_and_one_that_is_taken_is_refused(
    service: Service, engine: Engine, target: DockerTarget, gateway_image: str, stand_in: str
) -> None:
    port = free_port()
    service.tell({1: 100}, port=port)
    service.until_ready()
    eventually(lambda: service.url == f"http://127.0.0.1:{port}", "the port moved", 90)
    other = dockerservices.new(engine, target, gateway_image, revision(1, stand_in))

    with pytest.raises(RefusedError, match=rf"port {port} on 127\.0\.0\.1 is in use"):
        target.apply(dataclasses.replace(other.told, port=port))
    target.delete(other.name)


def test_things_of_others_with_our_names_are_left_alone(
    engine: Engine, target: DockerTarget, gateway_image: str, stand_in: str
) -> None:
    other = dockerservices.new(engine, target, gateway_image, revision(1, stand_in))
    engine.make_volume(f"packhorse-{other.name}-config", {"of": "somebody"})

    with pytest.raises(RefusedError, match="is not Packhorse's: remove it"):
        target.apply(other.told)
    target.delete(other.name)

    assert engine.volume_labels(f"packhorse-{other.name}-config") == {"of": "somebody"}
    engine.remove_volume(f"packhorse-{other.name}-config")
    assert target.observe("never-heard-of").condition is Condition.ABSENT
