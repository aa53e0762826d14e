"""The Role that is shipped, held against what the code asks for. Every other test of the target
runs with exactly that Role too: what it lacks would fail there.
"""

from pathlib import Path

import yaml

from cloud.hosting.targets import Question, Route, Scale
from tests.support import kube, kube_fixtures
from tests.support.kube_fixtures import Rig
from tests.support.kube_wishes import SERVICE, revision, wish


def do_everything(rig: Rig) -> None:
    changes = rig.target.changes()
    many = [revision(scale=Scale(2, 4), secrets={"A": "1"})]
    for route in (Route("a.example", None, "nginx"), Route("a.example", "infra/public")):
        gateway = rig.run(wish(1, many, route=route, gateway_replicas=2))
    rig.kube.pods.be(
        "churn-r1",
        state={"waiting": {"reason": "CrashLoopBackOff"}},
        lastState={"terminated": {"exitCode": 1}},
    )
    rig.kube.pods.be("churn-r1", number=1, state={"waiting": {"reason": "ContainerCreating"}})
    rig.seen()
    list(rig.target.logs(SERVICE, revision=None, follow=False, tail=1))
    rig.target.statuses(SERVICE)
    rig.target.services()
    rig.target.ask(SERVICE, 1, Question("/v2/models/churn-model/infer", b"{}"))
    rig.apply(wish(2, many, route=route))
    rig.kube.pods.say(gateway, 2)
    assert next(changes) == SERVICE
    rig.target.delete(SERVICE)


def test_the_role_grants_what_is_asked_for_and_no_more(tmp_path: Path) -> None:
    with kube_fixtures.rig(tmp_path) as rig:
        do_everything(rig)
        used = set(rig.kube.used)

    granted = kube.granted()
    assert used - granted == set()
    assert granted - used == set()


def test_the_role_has_no_wildcards_and_is_of_one_namespace() -> None:
    role = yaml.safe_load(kube.ROLE.read_text())

    assert role["kind"] == "Role"
    assert not any(
        "*" in rule[field]
        for rule in role["rules"]
        for field in ("apiGroups", "resources", "verbs")
    )


def test_the_binding_binds_that_role_to_the_account_beside_it() -> None:
    directory = kube.ROLE.parent
    binding = yaml.safe_load((directory / "rolebinding.yaml").read_text())
    account = yaml.safe_load((directory / "serviceaccount.yaml").read_text())
    role = yaml.safe_load(kube.ROLE.read_text())
    top = yaml.safe_load((directory / "kustomization.yaml").read_text())

    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    (subject,) = binding["subjects"]
    assert subject["name"] == account["metadata"]["name"]
    assert subject["namespace"] == top["namespace"]  # which the API server does not fill in
    assert sorted(top["resources"]) == sorted(
        path.name for path in directory.glob("*.yaml") if path.name != "kustomization.yaml"
    )
