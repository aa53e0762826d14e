"""What is asked of a container engine, without one."""

import dataclasses

import docker.errors
import pytest
import requests

from runtime.containers import images, payload, tunnel
from runtime.containers.client import explaining
from runtime.containers.errors import AbsentError, EngineRefusedError
from runtime.containers.specs import ContainerSpec, Mount, Probe
from runtime.errors import InvalidError

SPEC = ContainerSpec(image="images/a:1", network="own", aliases=("r1-1",), cpu=0.5, memory_mb=64)


def test_a_container_has_no_rights_that_were_not_asked_for() -> None:
    host = payload.container(SPEC)["HostConfig"]

    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert host["ReadonlyRootfs"]
    assert host["PortBindings"] == {}
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (
        500_000_000,
        64 << 20,
        64 << 20,
    )
    assert "DeviceRequests" not in host


def test_gpus_are_asked_for_by_number() -> None:
    host = payload.container(dataclasses.replace(SPEC, gpus=2))["HostConfig"]

    assert host["DeviceRequests"] == [{"Count": 2, "Capabilities": [["gpu"]]}]


@pytest.mark.parametrize(
    "changes",
    [
        {"image": "images/a:2"},
        {"env": {"A": "b"}},
        {"mounts": (Mount("v", "/v"),)},
        {"probe": Probe(())},
        {"memory_mb": 65},
    ],
)
def test_a_fingerprint_tells_every_difference_but_labels(changes: dict[str, object]) -> None:
    other = dataclasses.replace(SPEC, **changes)  # type: ignore[arg-type]
    labelled = dataclasses.replace(SPEC, labels={"a": "b"})

    assert payload.fingerprint(other) != payload.fingerprint(SPEC)
    assert payload.fingerprint(labelled) == payload.fingerprint(SPEC)


@pytest.mark.parametrize(
    ("reference", "name", "tag"),
    [
        ("images/a:1", "images/a", "1"),
        ("images/a", "images/a", "latest"),
        ("127.0.0.1:5000/a", "127.0.0.1:5000/a", "latest"),
        ("127.0.0.1:5000/a:2", "127.0.0.1:5000/a", "2"),
    ],
)
def test_a_port_is_not_taken_for_a_tag(reference: str, name: str, tag: str) -> None:
    assert images.split_tag(reference) == (name, tag)


def test_the_bytes_of_a_pull_are_those_of_all_its_layers() -> None:
    layers: dict[str, tuple[int, int]] = {}
    lines = (
        {"id": "a", "status": "Downloading", "progressDetail": {"current": 5, "total": 10}},
        {"id": "b", "status": "Downloading", "progressDetail": {"current": 1, "total": 7}},
        {"id": "a", "status": "Extracting", "progressDetail": {"current": 3, "total": 10}},
        {"id": "a", "status": "Download complete", "progressDetail": {}},
        {"id": "c", "status": "Already exists", "progressDetail": {}},
    )

    told = [images.tally(layers, line) for line in lines]

    assert told == [True, True, False, True, False]
    assert layers == {"a": (10, 10), "b": (1, 7)}


def test_ssh_is_called_without_questions_and_with_nothing_that_looks_like_an_option() -> None:
    argv = tunnel.command("ssh://carrier@edge-1.example:2222")

    assert argv[-2:] == ["--", "edge-1.example"]
    assert "BatchMode=yes" in argv
    assert argv[argv.index("-p") + 1] == "2222"
    assert argv[argv.index("-l") + 1] == "carrier"


@pytest.mark.parametrize("url", ["ssh://", "ssh://-oProxyCommand=x", "ssh://-a@h"])
def test_what_is_no_host_is_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="ssh://"):
        tunnel.command(url)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("ssh://edge-1.example", "/var/run/docker.sock"),
        ("ssh://edge-1.example/", "/var/run/docker.sock"),
        ("ssh://edge-1.example/run/user/1000/docker.sock", "/run/user/1000/docker.sock"),
    ],
)
def test_the_socket_over_there_is_the_usual_one_or_the_one_that_is_named(
    url: str, path: str
) -> None:
    assert tunnel.remote_socket(url) == path


@pytest.mark.parametrize("path", ["/a:b", "/a b", "//a", "/a/../$x"])
def test_what_is_no_path_of_a_socket_is_refused(path: str) -> None:
    with pytest.raises(InvalidError, match="ssh://"):
        tunnel.remote_socket(f"ssh://h{path}")


@pytest.mark.parametrize(
    ("said", "kind", "status"),
    [
        ("can only stop running containers: container state improper", EngineRefusedError, 409),
        ("container 3c839e does not exist in database: no such container", AbsentError, 404),
        ("no space left on device", EngineRefusedError, 500),
    ],
)
def test_what_podman_says_in_words_alone_is_understood(
    said: str, kind: type[EngineRefusedError], status: int
) -> None:
    answer = requests.Response()
    answer.status_code = 500

    with pytest.raises(kind) as refused, explaining("inspect container a"):
        raise docker.errors.APIError("500 Server Error", answer, said)

    assert (type(refused.value), refused.value.status) == (kind, status)
