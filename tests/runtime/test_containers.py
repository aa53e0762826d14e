"""What is asked of a container engine, without one."""

import dataclasses

import pytest

from runtime.containers import images, payload, tunnel
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


def test_ssh_is_called_without_questions_and_with_nothing_that_looks_like_an_option() -> None:
    argv = tunnel.command("ssh://carrier@edge-1.example:2222")

    assert argv[-2:] == ["--", "edge-1.example"]
    assert "BatchMode=yes" in argv
    assert argv[argv.index("-p") + 1] == "2222"
    assert argv[argv.index("-l") + 1] == "carrier"


@pytest.mark.parametrize("url", ["ssh://", "ssh://-oProxyCommand=x", "ssh://h/path", "ssh://-a@h"])
def test_what_is_no_host_is_refused(url: str) -> None:
    with pytest.raises(InvalidError, match="ssh://"):
        tunnel.command(url)
