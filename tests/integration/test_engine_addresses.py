"""Engines on other machines: TCP with certificates on both sides, and a socket behind ssh."""

import contextlib
import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.hosting.docker.target import DockerTarget
from cloud.trust.authority import Authority
from runtime.containers.engine import Engine
from runtime.containers.errors import EngineUnreachableError
from runtime.containers.specs import Address
from tests.support import dockerservices, engines, sshd, standins
from tests.support.dockerservices import revision
from tests.support.sshd import Sshd

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with sshd.running(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def by_tls(engine_rig: engines.Rig) -> Address:
    return with_certificate(engine_rig, engine_rig.authority)


@pytest.fixture
def by_ssh(engine_rig: engines.Rig, ssh_server: Sshd, monkeypatch: pytest.MonkeyPatch) -> Address:
    monkeypatch.setenv("PATH", f"{ssh_server.programs}{os.pathsep}{os.environ['PATH']}")
    return Address(f"{ssh_server.host}{engine_rig.socket}")


def with_certificate(rig: engines.Rig, ours: Authority) -> Address:
    return Address(
        rig.tcp_url,
        ca=str(rig.authority.ca_file),
        certificate=str(ours.registry_cert_file),
        key=str(ours.registry_key_file),
    )


@pytest.mark.parametrize("way", ["by_tls", "by_ssh"])
def test_a_service_is_made_watched_read_and_deleted_on_an_engine_of_another_machine(
    way: str, engine: Engine, gateway_image: str, request: pytest.FixtureRequest
) -> None:
    with contextlib.closing(DockerTarget(Engine(request.getfixturevalue(way)))) as target:
        made = dockerservices.new(
            engine, target, gateway_image, revision(1, standins.make(engine, gateway_image))
        )
        made.told = dataclasses.replace(made.told, port=None)
        target.apply(made.told)

        seen = made.until_ready()
        assert [each.partition("://")[0] for each in seen.endpoints] == ["http", "grpc"]
        said = target.logs(made.name, revision=1, follow=True, tail=1)
        with contextlib.closing(said):  # type: ignore[type-var]
            assert next(said).text == "serving 1"
        target.delete(made.name)
        assert made.containers("replica") == made.containers("gateway") == ()


def test_an_engine_lets_in_nobody_without_a_certificate_of_its_ca(
    engine_rig: engines.Rig, tmp_path: Path
) -> None:
    nobody = Address(engine_rig.tcp_url, ca=str(engine_rig.authority.ca_file))
    stranger = with_certificate(engine_rig, Authority.open(tmp_path / "stranger"))

    for address in (nobody, stranger):
        with pytest.raises(EngineUnreachableError, match=r"connect to the engine at tcp://"):
            Engine(address)


def test_an_engine_with_a_certificate_of_another_ca_is_not_trusted(
    by_tls: Address, tmp_path: Path
) -> None:
    other = Authority.open(tmp_path / "other")

    with pytest.raises(EngineUnreachableError, match="certificate verify failed"):
        Engine(dataclasses.replace(by_tls, ca=str(other.ca_file)))


def test_a_machine_that_ssh_does_not_know_is_not_trusted(by_ssh: Address, ssh_server: Sshd) -> None:
    known = (ssh_server.programs / "known_hosts").read_text()
    ssh_server.forget_host()
    try:
        with pytest.raises(EngineUnreachableError, match="Host key verification failed"):
            Engine(by_ssh)
    finally:
        (ssh_server.programs / "known_hosts").write_text(known)


def test_a_socket_that_is_not_there_behind_ssh_is_named(by_ssh: Address, ssh_server: Sshd) -> None:
    with pytest.raises(EngineUnreachableError, match=r"ssh://.*/nowhere\.sock"):
        Engine(dataclasses.replace(by_ssh, url=f"{ssh_server.host}/nowhere.sock"))


def test_no_ssh_is_left_when_an_engine_is_let_go(by_ssh: Address) -> None:
    engine = Engine(by_ssh)
    child = engine._client._tunnel._child

    engine.close()

    assert child.poll() is not None
