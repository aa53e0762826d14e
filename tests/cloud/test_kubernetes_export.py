import base64
import stat
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from cloud.hosting.errors import RefusedError
from cloud.hosting.kubernetes import manifests
from cloud.hosting.kubernetes.export import export
from cloud.hosting.kubernetes.pulling import Pulling
from cloud.hosting.kubernetes.target import KubernetesTarget
from cloud.hosting.targets import Place, Resources, Scale
from tests.support import kube
from tests.support.kube_wishes import revision, wish

PLACE = Place("kubernetes", namespace="models")
SECRET = "two\nlines and a $"
FULL = wish(
    4,
    [revision(scale=Scale(2, 5), secrets={"TOKEN": SECRET}, resources=Resources(2, 512, 1))],
    gateway_replicas=2,
)


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_all_objects_are_files_that_the_kustomization_names(tmp_path: Path) -> None:
    files = export(FULL, PLACE, tmp_path / "out")

    top = read(tmp_path / "out" / "kustomization.yaml")
    named = {path.name for path in files if path.suffix == ".yaml"} - {"kustomization.yaml"}
    assert set(top["resources"]) == named
    assert top["namespace"] == "models"
    made = [read(tmp_path / "out" / name) for name in top["resources"]]
    for manifest in made:
        kubernetes_validate.validate(manifest, "1.36", strict=True)
    secrets = [entry["name"] for entry in top["secretGenerator"]]
    wanted = manifests.build(FULL)
    assert len(made) + len(secrets) == len(wanted)


def test_secrets_are_in_files_of_their_own_that_nobody_else_reads(tmp_path: Path) -> None:
    out = tmp_path / "out"
    files = export(FULL, PLACE, out, pulling=Pulling('{"auths": {}}'))

    secret = out / "secrets" / "churn-r1-env" / "TOKEN"
    assert secret.read_text() == SECRET
    private = [path for path in files if path.is_relative_to(out / "secrets")]
    assert {mode(path) for path in private} == {0o600}
    assert mode(out / "secrets") == 0o700
    coded = base64.b64encode(SECRET.encode()).decode()
    others = [path.read_text() for path in files if path not in private]
    assert not any("two\nlines" in text or coded in text for text in others)
    assert (out / ".gitignore").read_text() == "secrets/\n"


def test_kustomize_makes_the_secrets_by_the_names_that_pods_use(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(FULL, PLACE, out)

    entries = {
        entry["name"]: entry for entry in read(out / "kustomization.yaml")["secretGenerator"]
    }

    env = entries["churn-r1-env"]
    assert env["files"] == ["TOKEN=secrets/churn-r1-env/TOKEN"]
    assert env["options"]["disableNameSuffixHash"] is True
    assert env["options"]["immutable"] is True
    assert "immutable" not in entries["churn-gateway"]["options"]
    for entry in entries.values():
        for pair in entry["files"]:
            assert (out / pair.partition("=")[2]).is_file()


def test_what_was_exported_is_not_taken_over_by_a_registry(tmp_path: Path) -> None:
    export(FULL, PLACE, tmp_path / "out")
    exported = read(tmp_path / "out" / "deployment-churn-r1.yaml")
    with kube.running() as cluster:
        cluster.store.put("deployments", exported)
        target = KubernetesTarget(PLACE, kubeconfig=cluster.kubeconfig(tmp_path))

        with pytest.raises(RefusedError, match="not Packhorse's"):
            target.apply(FULL)
        target.close()

    selected = exported["spec"]["selector"]["matchLabels"]
    assert selected.items() <= exported["spec"]["template"]["metadata"]["labels"].items()
    service = read(tmp_path / "out" / "service-churn-r1.yaml")
    assert service["spec"]["selector"] == selected


def test_exporting_again_replaces_the_old_export_as_a_whole(tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(FULL, PLACE, out)
    files = export(wish(5), PLACE, out)

    assert not (out / "horizontalpodautoscaler-churn-r1.yaml").exists()
    assert not (out / "secrets" / "churn-r1-env").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]
    assert files


@pytest.mark.parametrize("what", ["a file", "other files"])
def test_no_other_directory_is_written_over(tmp_path: Path, what: str) -> None:
    out = tmp_path / "out"
    {"a file": out.touch, "other files": lambda: (out.mkdir(), (out / "mine").touch())}[what]()

    with pytest.raises(RefusedError, match="name a"):
        export(FULL, PLACE, out)

    assert [path.name for path in tmp_path.rglob("*")] in (["out"], ["out", "mine"])


def test_a_wish_that_makes_no_sense_leaves_no_files(tmp_path: Path) -> None:
    with pytest.raises(RefusedError):
        export(wish(revisions=[revision(image="")]), PLACE, tmp_path / "out")

    assert list(tmp_path.iterdir()) == []


def test_an_inference_service_serves_the_revision_that_has_the_traffic(tmp_path: Path) -> None:
    out = tmp_path / "out"
    both = wish(4, [*FULL.revisions, revision(2)], {"r1": 100, "r2": 0})
    export(both, PLACE, out, "kserve", Pulling(None, ("corporate",)))

    service = read(out / "inferenceservice-churn.yaml")
    predictor = service["spec"]["predictor"]
    assert (service["apiVersion"], service["kind"]) == (
        "serving.kserve.io/v1beta1",
        "InferenceService",
    )
    (container,) = predictor["containers"]
    assert (container["name"], container["image"]) == (
        "kserve-container",
        "images.example/churn:1",
    )
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (2, 5)
    assert predictor["imagePullSecrets"] == [{"name": "corporate"}]
    assert read(out / "kustomization.yaml")["secretGenerator"][0]["name"] == "churn-r1-env"


def test_the_pod_of_an_inference_service_is_one_that_kubernetes_knows(tmp_path: Path) -> None:
    export(FULL, PLACE, tmp_path / "out", "kserve")
    predictor = read(tmp_path / "out" / "inferenceservice-churn.yaml")["spec"]["predictor"]
    own = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget"}

    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "churn"},
        "spec": {key: value for key, value in predictor.items() if key not in own},
    }
    kubernetes_validate.validate(pod, "1.36", strict=True)


def test_traffic_that_is_shared_is_no_inference_service(tmp_path: Path) -> None:
    shared = wish(4, [revision(1), revision(2)], {"r1": 50, "r2": 50})

    with pytest.raises(RefusedError, match="give one all the traffic"):
        export(shared, PLACE, tmp_path / "out", "kserve")
