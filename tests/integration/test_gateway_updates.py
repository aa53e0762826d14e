"""No request fails because something changes: real processes, a client that tries nothing twice."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import gateways
from tests.support.brokers import HOST
from tests.support.commands import eventually
from tests.support.gateways import Backend, GatewayProcess, revision
from tests.support.load import Load

REQUESTS = 10_000


@dataclasses.dataclass
class World:
    """A gateway and some replicas."""

    place: Path
    gateway: GatewayProcess
    a: Backend
    b: Backend
    c: Backend


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("gateway")
    backends = [Backend(place, name).begin() for name in "abc"]
    made = World(place, GatewayProcess(place, "--reuse-port"), *backends)
    with gateways.running(made.gateway, *backends):
        for backend in backends:
            backend.await_ready()
        made.gateway.configure(revision("r1", 100, [made.a, made.b]))
        made.gateway.start()
        made.gateway.await_healthy(2)
        yield made


@pytest.mark.timeout(360)
def test_ten_thousand_requests_survive_every_kind_of_change(world: World) -> None:
    a, b, c, gateway = world.a, world.b, world.c, world.gateway
    with Load(f"http://{HOST}:{gateway.port}").running() as load:
        load.await_answers(500)

        # Weights shift, and the configuration is replaced all the time.
        for share in range(2, 102, 2):
            gateway.configure(revision("r1", 100 - share, [a, b]), revision("r2", share, [c]))
            load.await_answers(60)
        eventually(
            lambda: gateway.status().generation == gateway.generation, "the last is in force"
        )

        # A revision goes away, and one comes back with replicas of its own.
        gateway.apply(revision("r2", 100, [c]))
        load.await_answers(300)
        gateway.apply(revision("r3", 100, [a, b, c]))
        load.await_answers(300)

        for _ in range(2):
            # A replica is killed in the middle of its requests, and comes back.
            a.kill()
            load.await_answers(500)
            a.start()
            gateway.await_healthy(3)
            # A replica drains and ends, as in a rolling update, and comes back.
            b.stop()
            load.await_answers(500)
            b.start()
            gateway.await_healthy(3)

        # A replica leaves the configuration before it ends.
        gateway.apply(revision("r3", 100, [a, b]))
        c.stop()
        load.await_answers(max(1000, REQUESTS - load.answers))
        c.start()

    assert load.failures == []
    assert load.answers >= REQUESTS
    assert {"r1", "r2", "r3"} <= set(load.revisions)


def test_a_gateway_takes_over_the_port_of_another_without_a_failed_request(world: World) -> None:
    old = world.gateway
    old.apply(revision("r1", 100, [world.a, world.b]))
    new = GatewayProcess(world.place, "--reuse-port", name="second")
    new.take_port_of(old)
    url = f"http://{HOST}:{old.port}"
    kept, fresh = Load(url, connections=4), Load(url, connections=4, fresh=True)
    with gateways.running(new), kept.running(), fresh.running():
        for before, after in ((old, new), (new, old)):
            after.start()
            fresh.await_answers(100)
            assert before.stop() == 0
            fresh.await_answers(100)
            kept.await_answers(100)

    assert kept.failures + fresh.failures == []


def test_shares_of_the_traffic_are_exact(world: World) -> None:
    world.gateway.apply(revision("r1", 70, [world.a]), revision("r2", 30, [world.b]))

    answers = [world.gateway.infer()[2]["X-Packhorse-Revision"] for _ in range(100)]

    assert answers.count("r1") == 70
    assert answers.count("r2") == 30


def test_a_revision_without_traffic_answers_whoever_names_it(world: World) -> None:
    world.gateway.apply(revision("r1", 100, [world.a]), revision("r2", 0, [world.b]))

    named = [world.gateway.infer(headers={"X-Packhorse-Revision": "r2"}) for _ in range(3)]
    status, body, _headers = world.gateway.infer(headers={"X-Packhorse-Revision": "r9"})

    assert [(code, headers["X-Packhorse-Revision"]) for code, _, headers in named] == [
        (200, "r2")
    ] * 3
    assert (status, "there is r1, r2" in str(body)) == (404, True)


def test_requests_in_hand_end_when_their_revision_leaves(world: World) -> None:
    gateway = world.gateway
    gateway.apply(revision("r1", 100, [world.a]))
    with gateways.asking(gateway, "slow") as asked:
        gateway.apply(revision("r2", 100, [world.b]))

    assert asked.result() == (200, {"backend": "a"})


def test_a_configuration_that_cannot_be_read_changes_nothing_and_is_shown(world: World) -> None:
    gateway = world.gateway
    gateway.apply(revision("r1", 100, [world.a]))
    kept = gateway.config.read_bytes()
    gateway.config.write_bytes(kept.replace(b'"weight": 100', b'"weight": 90'))
    eventually(lambda: "weight" in gateway.status().trouble, "the trouble is shown")

    assert gateway.infer()[0] == 200
    assert gateway.status().generation == gateway.generation

    gateway.config.write_bytes(kept)
    eventually(lambda: not gateway.status().trouble, "the trouble is over")


def test_a_configuration_reached_through_a_directory_that_is_swapped_is_followed(
    world: World, tmp_path: Path
) -> None:
    gateway = GatewayProcess(tmp_path)
    first, second = tmp_path / "first", tmp_path / "second"
    for number, directory in enumerate((first, second), start=1):
        directory.mkdir()
        gateway.configure(revision(f"r{number}", 100, [world.a]))
        gateway.config.rename(directory / "gateway.json")
    (tmp_path / "data").symlink_to(first)
    gateway.config.symlink_to(Path("data") / "gateway.json")
    with gateways.running(gateway):
        gateway.start()
        assert gateway.infer()[2]["X-Packhorse-Revision"] == "r1"

        (tmp_path / "next").symlink_to(second)
        (tmp_path / "next").rename(tmp_path / "data")
        eventually(lambda: gateway.status().generation == 2, "the second is in force")

        assert gateway.infer()[2]["X-Packhorse-Revision"] == "r2"


def test_a_status_file_follows_the_status(world: World) -> None:
    gateway = world.gateway
    gateway.apply(revision("r1", 100, [world.a]))

    eventually(lambda: gateway.written_status() == gateway.status(), "file and status agree")

    gateway.infer()
    eventually(lambda: gateway.written_status() == gateway.status(), "they agree again")
