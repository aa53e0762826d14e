"""What authors write about containers, and what is refused with its field and a fix."""

import msgspec
import pytest

from runtime.bundle import containerchecks, containers
from runtime.bundle import index as bundle_index
from runtime.bundle.containers import Container, Group, Health, Logs, Port, Volume
from runtime.bundle.index import Index, Signature
from runtime.bundle.source import parse_source
from runtime.errors import InvalidError

DIGEST = "sha256:" + "0" * 64
IMAGE = f"127.0.0.1:5000/camera@{DIGEST}"
HEAD = "name: camera\nkind: container\n"


def one(text: str, head: str = HEAD) -> str:
    """Return a bundle.yaml with one container that has these further lines."""
    lines = [f"  {line}" for line in [f"image: {IMAGE}", *text.splitlines()]]
    return "\n".join([head + "container:", *lines])


def group(text: str) -> Group:
    read = parse_source(text.encode()).container
    assert read is not None
    return read


def test_a_container_is_named_and_safe_unless_it_says_otherwise() -> None:
    read = group(one(""))

    assert read == Group((Container("main", IMAGE),))
    assert read.containers[0].read_only
    assert read.containers[0].capabilities == ()
    assert read.start == "beside"


def test_all_that_a_container_may_say_is_read() -> None:
    text = one(
        """command: [serve, --port, '80']
environment: {LEVEL: debug}
ports: [{host: 8080, port: 80}, {host: 53, port: 53, protocol: udp, address: 0.0.0.0}]
volumes: [{name: data, path: /data}, {host: /srv/in, path: /in, read_only: true}]
devices: [/dev/video0]
gpu: all
resources: {memory_mb: 64, cpu: 0.5}
restart: on-failure
health: {http: {port: 80, path: /ready}, interval_s: 2, retries: 5}
logs: {max_mb: 1, files: 2}
user: '1000:1000'
read_only: false
tmpfs: [/run]
capabilities: [NET_BIND_SERVICE]
stop_s: 3""",
        HEAD + "start: stop-then-start\ntrial_s: 2\n",
    )

    assert group(text) == Group(
        (
            Container(
                "main",
                IMAGE,
                command=("serve", "--port", "80"),
                environment={"LEVEL": "debug"},
                ports=(Port(80, 8080), Port(53, 53, "0.0.0.0", "udp")),  # noqa: S104 - asked for
                volumes=(
                    Volume("/data", name="data"),
                    Volume("/in", host="/srv/in", read_only=True),
                ),
                devices=("/dev/video0",),
                gpus=containers.ALL_GPUS,
                memory_mb=64,
                cpu=0.5,
                restart="on-failure",
                health=Health(port=80, path="/ready", interval_s=2.0, retries=5),
                logs=Logs(1, 2),
                user="1000:1000",
                read_only=False,
                tmpfs=("/run",),
                capabilities=("NET_BIND_SERVICE",),
                stop_s=3,
            ),
        ),
        start="stop-then-start",
        trial_s=2.0,
    )


def test_containers_of_a_group_start_behind_what_they_need() -> None:
    text = (
        f"{HEAD}containers:\n  web: {{image: '{IMAGE}', needs: [db]}}\n  db: {{image: '{IMAGE}'}}"
    )

    assert [each.name for each in containers.in_order(group(text))] == ["db", "web"]


def test_a_digest_decides_whatever_tag_stands_beside_it() -> None:
    text = f"{HEAD}container:\n  image: 127.0.0.1:5000/camera:1.2@{DIGEST}"

    assert group(text).containers[0].image == IMAGE


def test_a_tag_alone_is_read_and_refused_unless_its_digest_is_found() -> None:
    tagged = group(f"{HEAD}container: {{image: 'registry.example/camera:1'}}")

    with pytest.raises(InvalidError, match="another image tomorrow") as caught:
        containerchecks.require(tagged)
    assert caught.value.field == "containers.main.image"
    pinned = containers.pinned(tagged, lambda _image, _field: DIGEST)
    containerchecks.require(pinned)
    found = (pinned.containers[0].image, pinned.containers[0].tag)
    assert found == (f"registry.example/camera@{DIGEST}", "registry.example/camera:1")


CIRCLE = f"""{HEAD}containers:
  a: {{image: '{IMAGE}', needs: [b]}}
  b: {{image: '{IMAGE}', needs: [a]}}"""


@pytest.mark.parametrize(
    ("text", "field", "fix"),
    [
        (HEAD, "container", "write container: for one"),
        (one("ports: [{host: 80, port: 80}]"), "containers.main.ports", "stop-then-start"),
        (one("ports: ['80:80']"), "container.ports[0]", "keys with values"),
        (one("privileged: true"), "container.privileged", "the keys here are image"),
        (one("restart: no"), "container.restart", "text"),
        (one("restart: 'no'"), "container.restart", "use always or on-failure"),
        (one("command: python app.py"), "container.command", "a list of words"),
        (one("gpu: some"), "container.gpu", "all, or how many"),
        (one("read_only: 'no'"), "container.read_only", "true or false"),
        (one("devices: [/etc/passwd]"), "containers.main.devices", "below /dev"),
        (one("volumes: [{path: /a}]"), "containers.main.volumes", "name: or host:"),
        (
            one("volumes: [{path: /a, host: /b, keep: false}]"),
            "containers.main.volumes.keep",
            "never removed",
        ),
        (one("volumes: [{path: /a/../b, name: x}]"), "containers.main", "absolute path"),
        (one("volumes: [{path: /tmp, name: x}]"), "containers.main.volumes", "one thing at each"),
        (one("capabilities: [ALL]"), "containers.main.capabilities", "none that means all"),
        (one("environment: {A: 1}"), "container.environment.A", "quote it"),
        (one("health: {interval_s: 1}"), "containers.main.health", "command: or http:"),
        (one("health: {http: {path: /}}"), "container.health.http.port", "write port"),
        (
            one("network: none\nhealth: {http: {port: 80}}"),
            "containers.main.health.http",
            "use command:",
        ),
        (one("needs: [db]"), "containers.main.needs", "the containers are main"),
        (one("logs: {max_mb: 0}"), "containers.main.logs.max_mb", "give 1 to 10000"),
        (one("resources: {memory_mb: 1.5}"), "container.resources.memory_mb", "whole number"),
        (one("") + "\nmodel: m.onnx", "model", "a container has none"),
        (one("") + "\nresources: {cpu: 1}", "resources", "below the container"),
        ("name: a\nkind: onnx\nmodel: m.onnx\nstart: beside", "start", "write kind: container"),
        (CIRCLE, "containers.needs", "wait for one another"),
    ],
)
def test_a_container_that_cannot_be_is_refused_by_field_with_a_fix(
    text: str, field: str, fix: str
) -> None:
    with pytest.raises(InvalidError, match=fix) as caught:
        parse_source(text.encode())

    assert caught.value.field.startswith(field)


def test_an_index_with_containers_is_read_back_and_a_forged_one_is_refused() -> None:
    made = Index(1, "camera", "container", "", (), Signature((), ()), container=group(one("")))

    assert bundle_index.decode(bundle_index.encode(made)) == made
    forged = Group((Container("main", "camera:latest"),))
    with pytest.raises(InvalidError, match="by digest"):
        bundle_index.decode(bundle_index.encode(msgspec.structs.replace(made, container=forged)))
    with pytest.raises(InvalidError, match="kind container has one"):
        bundle_index.decode(bundle_index.encode(msgspec.structs.replace(made, container=None)))
