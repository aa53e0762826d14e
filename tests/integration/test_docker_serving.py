"""The whole way: a registered bundle becomes an image, runs on an engine, and answers clients."""

import dataclasses
import hashlib
import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from cloud.hosting.docker.target import DockerTarget
from cloud.hosting.targets import RevisionWish
from cloud.images import content as contents
from cloud.images.builder import Builder
from runtime.bundle import build
from runtime.containers.engine import Engine
from runtime.containers.specs import Address
from runtime.gateway.config import Key
from tests.support import bundle_sources, dockerservices, engines
from tests.support.asking import asking
from tests.support.brokers import eventually
from tests.support.dockerservices import Service

pytestmark = pytest.mark.timeout(600)

KEY = "open sesame"
PATH = "/v2/models/scale/infer"
BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}
).encode()
SCRIPTED = """name: scale
kind: python
entry: score.py
signature:
  inputs: [{name: x, datatype: FP32, shape: [-1, 4]}]
  outputs: [{name: y, datatype: FP32, shape: [-1, 4]}]
"""
SCORE = """
import os

def run(inputs):
    return {"y": inputs["x"] * float(os.environ["FACTOR"])}
"""


@pytest.fixture(scope="module")
def target(engine_rig: engines.Rig) -> Iterator[DockerTarget]:
    made = DockerTarget(Engine(Address(engine_rig.url)))
    yield made
    made.close()


def image_of(builder: Builder, directory: Path, version: int) -> RevisionWish:
    """Return a revision of a bundle that lies in a directory."""
    content = contents.of_built(build.build(directory), version)
    image = builder.build(content, base_image=engines.BASE)
    assert image.bundle is not None
    return RevisionWish(version, image.reference, "scale", version, image.bundle)


@pytest.fixture
def service(
    tmp_path: Path, engine: Engine, builder: Builder, target: DockerTarget, gateway_image: str
) -> Iterator[Service]:
    """A model that doubles, for those who have the key."""
    first = image_of(builder, bundle_sources.write_bundle(tmp_path / "v1"), 1)
    made = dockerservices.new(engine, target, gateway_image, first)
    key = Key("tester", hashlib.sha256(KEY.encode()).hexdigest())
    config = msgspec.structs.replace(made.told.gateway, keys=(key,), anonymous=False)
    made.told = dataclasses.replace(made.told, gateway=config)
    target.apply(made.told)
    made.until_ready()
    yield made
    target.delete(made.name)


def test_a_model_is_served_and_a_new_version_takes_over_without_a_failed_request(
    service: Service, tmp_path: Path, builder: Builder
) -> None:
    second = image_of(builder, bundle_sources.write_bundle(tmp_path / "v2", factor=3.0), 2)
    assert asked(service.url, {})[0] == http.client.UNAUTHORIZED

    with asking(service.url, path=PATH, body=BODY, headers=_bearer(), clients=2) as load:
        eventually(lambda: load.answers > 0, "it answers")
        assert load.last["outputs"][0]["data"] == [2, 4, 6, 8]
        service.tell({1: 100, 2: 0}, second)
        service.until_ready()
        service.tell({1: 0, 2: 100})
        service.until_ready()
        service.tell({2: 100})
        service.until_ready()
        before = load.answers
        eventually(lambda: load.answers > before + 10, "it answers")

    assert load.failures == []
    assert load.last["outputs"][0]["data"] == [3, 6, 9, 12]
    statuses = service.target.statuses(service.name)
    assert statuses[0].generation == service.told.generation


def test_secrets_reach_the_script_and_no_inspection_shows_them(
    service: Service, tmp_path: Path, builder: Builder, engine: Engine
) -> None:
    directory = tmp_path / "scripted"
    directory.mkdir()
    (directory / "bundle.yaml").write_text(SCRIPTED)
    (directory / "score.py").write_text(SCORE)
    secret = dataclasses.replace(image_of(builder, directory, 3), secrets={"FACTOR": "5.4321"})

    service.tell({3: 100}, secret)
    service.until_ready()

    status, said = asked(service.url, _bearer())
    assert status == http.client.OK, said
    assert said["outputs"][0]["data"][0] == pytest.approx(5.4321)
    for container in service.containers("replica"):
        assert "5.4321" not in json.dumps(engine._api.inspect_container(container.id))


def asked(url: str, headers: dict[str, str]) -> tuple[int, dict[str, list[dict[str, list[float]]]]]:
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    try:
        connection.request("POST", PATH, BODY, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


def _bearer() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}"}
