"""Services as files, from the registry or the command line: nothing of it touches a cluster."""

import base64
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cloud.cli import service_exporting
from runtime import digests
from tests.support import command_line, hosting, registries
from tests.support.command_line import Run
from tests.support.hosting import Host

KUBERNETES = {"kind": "kubernetes", "namespace": "models"}
EXPORTS = "/api/v1/exports"
IMAGE = "images.example/team/scale@sha256:" + "a" * 64
SECRET = "hush: $ALL of it"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A registry that pushes images, and has a password to pull them."""
    place = tmp_path_factory.mktemp("hosting")
    config = place / "config.json"
    config.write_text(json.dumps({"auths": {"images.example": {"auth": "aHVzaDpodXNo"}}}))
    with hosting.hosting(
        place / "data", image_registry="images.example/team", image_pull_config=config
    ) as host:
        yield host


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One that pushes none."""
    with hosting.hosting(tmp_path_factory.mktemp("hosting")) as host:
        yield host


@pytest.fixture
def host(shared: Host) -> Iterator[Host]:
    with hosting.alone(shared) as made:
        yield made


@pytest.fixture(scope="module")
def url(shared: Host) -> Iterator[str]:
    with registries.listening(shared.registry) as made:
        yield made


@pytest.fixture
def run(
    host: Host,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    return command_line.runner(url, host.registry, tmp_path, monkeypatch, capsys)


def wish(host: Host, **more: Any) -> Any:
    return {"name": host.name, "model": "scale", "target": KUBERNETES, **more}


def ask(host: Host, path: str, body: Any, status: int = 200) -> Any:
    return registries.checked(host.registry.http.post(path, json=body), status)


def objects(files: dict[str, str]) -> dict[str, Any]:
    """Return manifests by their file, each one that Kubernetes 1.36 takes."""
    found = {
        name: yaml.safe_load(text)
        for name, text in files.items()
        if name.endswith(".yaml") and name != "kustomization.yaml"
    }
    for manifest in found.values():
        kubernetes_validate.validate(manifest, "1.36", strict=True)
    return found


def gateway_config(host: Host, files: dict[str, str]) -> Any:
    return json.loads(files[f"secrets/{host.name}-gateway/gateway.json"])


def test_what_shall_not_be_run_is_exported_once_its_images_are_pushed(host: Host) -> None:
    body = {"service": wish(host, scale={"least": 2}, env={"A": "1"})}

    first = ask(host, EXPORTS, body)
    host.builds.run_all()
    made = ask(host, EXPORTS, body)

    assert "the image of scale:3" in first["waiting"]
    assert (first["files"], first["key"]) == ({}, None)
    found = objects(made["files"])
    deployment = found[f"deployment-{host.name}-r1.yaml"]
    assert deployment["spec"]["replicas"] == 2
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    assert container["image"].startswith("packhorse/")
    top = yaml.safe_load(made["files"]["kustomization.yaml"])
    assert (set(top["resources"]), top["namespace"]) == (set(found), "models")
    assert host.registry.http.get(host.path).status_code == 404
    assert host.target.there == {}


def test_only_the_key_that_is_shown_once_opens_the_gateway(host: Host) -> None:
    made = ask(host, EXPORTS, {"service": wish(host), "image": IMAGE})

    (key,) = gateway_config(host, made["files"])["keys"]
    assert key["sha256"] == digests.of_bytes(made["key"].encode())
    assert not any(made["key"] in text for text in made["files"].values())


def test_one_image_serves_the_model_and_is_the_gateway(host: Host) -> None:
    made = ask(host, EXPORTS, {"service": wish(host), "image": IMAGE})

    images = {
        each["spec"]["template"]["spec"]["containers"][0]["image"]
        for each in objects(made["files"]).values()
        if each["kind"] == "Deployment"
    }
    assert images == {IMAGE}
    assert not host.builds.run_all()


def test_what_is_confidential_is_left_out_unless_it_is_asked_for(host: Host) -> None:
    body = {"service": wish(host, secrets={"TOKEN": SECRET}), "image": IMAGE}
    env, pull = f"secrets/{host.name}-r1-env/TOKEN", f"secrets/{host.name}-pull/.dockerconfigjson"

    without = ask(host, EXPORTS, body)
    full = ask(host, EXPORTS, {**body, "secrets": True})

    coded = base64.b64encode(SECRET.encode()).decode()
    assert sorted(without["left_out"]) == sorted([env, pull])
    assert not any(hidden in json.dumps(without) for hidden in (SECRET, coded, "aHVzaDpodXNo"))
    assert full["left_out"] == []
    assert full["files"][env] == SECRET
    assert "aHVzaDpodXNo" in full["files"][pull]
    named = yaml.safe_load(without["files"]["kustomization.yaml"])["secretGenerator"]
    assert {f"TOKEN={env}"} <= {pair for each in named for pair in each["files"]}


def test_a_service_is_exported_as_it_is_and_without_the_registrys_own_key(host: Host) -> None:
    host.deploy(target=KUBERNETES, version=1)
    host.update(version=2, strategy={"kind": "canary", "steps": [10, 100]})
    before = host.target.calls.copy()

    ask(host, f"{host.path}/export", {})
    host.builds.run_all()
    made = ask(host, f"{host.path}/export", {})

    config = gateway_config(host, made["files"])
    assert {each["name"]: each["weight"] for each in config["revisions"]} == {"r1": 90, "r2": 10}
    assert [each["name"] for each in config["keys"]] == ["first"]
    assert {f"deployment-{host.name}-r{number}.yaml" for number in (1, 2)} <= set(made["files"])
    objects(made["files"])
    assert made["key"] is None
    assert host.target.calls == before


def test_an_image_that_cannot_be_made_is_told_with_the_reason(host: Host) -> None:
    version = host.registry.get("/api/v1/models/scale/versions/1")
    host.maker.broken[version["bundle"]] = "the base has no Python"
    body = {"service": wish(host, version=1, base_image="bare:1")}
    ask(host, EXPORTS, body)
    host.builds.run_all()

    told = ask(host, EXPORTS, body, 422)

    assert told["detail"] == "image of scale:1: the base has no Python"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "`packhorse services build scale:3 --push REPOSITORY`"),
        ({"image": "not an image"}, "give a reference such as NAME:TAG"),
        ({"flavour": "helm"}, "flavour"),
    ],
)
def test_a_registry_without_an_image_registry_says_what_image_it_must_be(
    plain: Host, body: Any, said: str
) -> None:
    told = ask(plain, EXPORTS, {"service": wish(plain), **body}, 422)

    assert said in told["detail"]


def test_docker_is_not_exported_to(host: Host) -> None:
    told = ask(host, EXPORTS, {"service": wish(host, target={"kind": "docker"})}, 422)

    assert "only kubernetes is exported to" in told["detail"]


def test_an_inference_service_of_kserve_needs_no_gateway(host: Host) -> None:
    made = ask(host, EXPORTS, {"service": wish(host), "image": IMAGE, "flavour": "kserve"})

    service = yaml.safe_load(made["files"][f"inferenceservice-{host.name}.yaml"])
    (container,) = service["spec"]["predictor"]["containers"]
    assert (service["kind"], container["image"]) == ("InferenceService", IMAGE)
    assert made["key"] is None


def test_deploy_export_writes_manifests_and_deploys_nothing(
    host: Host, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    out = tmp_path / "out"
    words = ("services", "deploy", host.name, "--bundle", "scale:1", "--secret", "TOKEN",
             "--namespace", "models", "--image", IMAGE, "--export", str(out))  # fmt: skip

    ran = run(*words, "--with-secrets")

    assert ran.code == 0, ran.err
    assert "key  phs_" in ran.out
    assert f"kubectl apply -k {out}" in ran.err
    secret = out / "secrets" / f"{host.name}-r1-env" / "TOKEN"
    assert secret.read_text() == SECRET
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    assert host.registry.http.get(host.path).status_code == 404


def test_what_people_brought_to_an_export_stays_when_it_is_written_again(
    host: Host, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOKEN", SECRET)
    out = tmp_path / "out"
    words = ("services", "deploy", host.name, "--bundle", "scale:1", "--secret", "TOKEN",
             "--image", IMAGE, "--export", str(out), "--json")  # fmt: skip
    first = run(*words).json()
    mine = out / "secrets" / f"{host.name}-r1-env" / "TOKEN"
    mine.parent.mkdir(parents=True)
    mine.write_text("brought by hand")

    second = run(*words).json()

    assert str(mine.relative_to(out)) in first["missing"]
    assert str(mine.relative_to(out)) not in second["missing"]
    assert mine.read_text() == "brought by hand"


def test_an_export_waits_for_images_until_its_time_is_over(
    host: Host, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_exporting, "POLL_S", 0.05)
    out = tmp_path / "out"
    words = ("services", "deploy", host.name, "--bundle", "scale:2", "--gpus", "1")

    ran = run(*words, "--export", str(out), "--timeout", "1s")

    assert ran.code == 4
    assert "the image of scale:2" in ran.err
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--export-as", "helm", "--export", "OUT"), "use manifests or kserve"),
        (("--image", IMAGE), "go with --export DIR"),
        (("--export", "THERE"), "name an empty directory"),
    ],
)
def test_a_mistake_in_an_export_is_told_before_anything_is_written(
    host: Host, run: Run, tmp_path: Path, options: tuple[str, ...], said: str
) -> None:
    there = tmp_path / "there"
    there.mkdir()
    (there / "mine").touch()
    places = {"OUT": str(tmp_path / "out"), "THERE": str(there)}

    ran = run("services", "deploy", host.name, "--bundle", "scale:1",
              *(places.get(word, word) for word in options))  # fmt: skip

    assert ran.code != 0
    assert said in ran.err
    assert [path.name for path in there.iterdir()] == ["mine"]
    assert not (tmp_path / "out").exists()
