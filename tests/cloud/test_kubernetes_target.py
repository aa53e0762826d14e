import copy
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cloud.hosting.errors import RefusedError, UnreachableError
from cloud.hosting.kubernetes.pulling import Pulling
from cloud.hosting.targets import Condition, Question, Route, Scale, Wish
from tests.support import kube_fixtures
from tests.support.kube_fixtures import Rig
from tests.support.kube_wishes import SERVICE, revision, wish


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with kube_fixtures.rig(tmp_path) as made:
        yield made


def two(generation: int, weights: dict[str, int]) -> Wish:
    return wish(generation, [revision(1), revision(2)], weights)


def managers(rig: Rig, plural: str, name: str) -> set[tuple[str, str]]:
    entries = rig.kube.get(plural, name)["metadata"]["managedFields"]
    return {(entry["manager"], entry["operation"]) for entry in entries}


def test_everything_is_applied_by_one_field_manager(rig: Rig) -> None:
    written = rig.apply(wish(route=Route("churn.example", "infra/public"), gateway_replicas=2))

    assert written[-1] == "apply httproutes/churn"
    for plural, name in rig.kube.store.objects:
        assert managers(rig, plural, name) == {("packhorse", "Apply")}


def test_a_second_application_writes_nothing(rig: Rig) -> None:
    wanted = wish(revisions=[revision(scale=Scale(2, 4), secrets={"A": "1"}, env={"B": ""})])
    rig.run(wanted)

    assert rig.apply(wanted) == []


def test_an_object_of_somebody_else_stops_everything_before_anything_is_written(rig: Rig) -> None:
    foreign = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "churn-r1"}}
    rig.kube.store.put("deployments", foreign)

    with pytest.raises(RefusedError, match=r"Deployment churn-r1 .* is not Packhorse's"):
        rig.apply(wish())

    assert rig.kube.writes == []


def test_an_object_of_another_service_is_not_taken_over(rig: Rig) -> None:
    rig.apply(wish())
    rig.edit("services", "churn", "metadata.annotations", {"packhorse.io/service": "other"})

    with pytest.raises(RefusedError, match=r"Service churn .* belongs to service other"):
        rig.apply(wish())


def test_an_object_that_lost_a_label_gets_it_back(rig: Rig) -> None:
    rig.run(wish())
    labels = dict(rig.kube.get("services", "churn")["metadata"]["labels"])
    del labels["packhorse.io/service"]
    rig.edit("services", "churn", "metadata.labels", labels)

    assert rig.apply(wish()) == ["apply services/churn"]
    assert rig.kube.get("services", "churn")["metadata"]["labels"]["packhorse.io/service"]


def test_what_is_no_longer_wished_is_taken_away(rig: Rig) -> None:
    rig.run(
        wish(
            revisions=[revision(scale=Scale(2, 4))],
            route=Route("churn.example", None, "nginx"),
            gateway_replicas=2,
        )
    )

    written = rig.apply(wish(2))

    assert {line for line in written if line.startswith("delete")} == {
        "delete ingresses/churn",
        "delete poddisruptionbudgets/churn-gateway",
        "delete poddisruptionbudgets/churn-r1",
        "delete horizontalpodautoscalers/churn-r1",
    }
    assert rig.kube.get("deployments", "churn-r1")["spec"]["replicas"] == 1


def test_a_revision_goes_only_when_its_gateway_has_a_configuration_without_it(rig: Rig) -> None:
    gateway = rig.run(two(1, {"r1": 100, "r2": 0}))
    rig.kube.pods.run_all("churn-r2")
    without = wish(2, [revision(2)], {"r2": 100})

    first = rig.apply(without)
    still = rig.apply(without)
    rig.kube.pods.say(gateway, 2)
    then = rig.apply(without)

    assert not [line for line in first + still if line.startswith("delete")]
    assert then == [
        "delete deployments/churn-r1",
        "delete services/churn-r1",
        "delete services/churn-r1-each",
        "delete networkpolicies/churn-r1",
    ]


def test_a_gateway_that_does_not_answer_keeps_the_old_revision(rig: Rig) -> None:
    gateway = rig.run(two(1, {"r1": 100}))
    other = rig.kube.pods.start("churn-gateway", number=1)
    rig.kube.pods.say(gateway, 2)

    rig.apply(wish(2, [revision(2)], {"r2": 100}))

    assert other not in rig.kube.pods.statuses
    assert "churn-r1" in rig.kube.names("deployments")


def test_a_gateway_that_is_ending_keeps_the_old_revision_until_it_has_ended(rig: Rig) -> None:
    gateway = rig.run(two(1, {"r1": 100}))
    new = rig.kube.pods.start("churn-gateway", number=1)
    rig.kube.pods.say(new, 2)
    rig.kube.store.mark_deleted("pods", gateway)
    without = wish(2, [revision(2)], {"r2": 100})

    before = rig.apply(without)
    rig.kube.pods.end(gateway)
    after = rig.apply(without)

    assert not [line for line in before if line.startswith("delete")]
    assert "delete deployments/churn-r1" in after


def test_without_a_running_gateway_a_revision_goes_at_once(rig: Rig) -> None:
    rig.apply(two(1, {"r1": 100}))

    written = rig.apply(wish(2, [revision(2)], {"r2": 100}))

    assert "delete deployments/churn-r1" in written


def test_a_gateway_with_an_old_configuration_is_nudged_and_again_after_a_while(rig: Rig) -> None:
    gateway = rig.run(two(1, {"r1": 100}))
    nudge = f"annotate pods/{gateway}"
    changed = two(2, {"r1": 50, "r2": 50})

    first = rig.apply(changed)
    soon = rig.apply(changed)
    rig.clock.now += 6
    later = rig.apply(changed)
    rig.kube.pods.say(gateway, 2)
    rig.clock.now += 60
    done = rig.apply(changed)

    assert first == ["apply secrets/churn-gateway", nudge]
    assert (soon, later, done) == ([], [nudge], [])


def test_a_deployment_being_deleted_is_made_again_when_it_has_gone(rig: Rig) -> None:
    rig.run(wish())
    rig.target.delete(SERVICE)

    during = rig.apply(wish())
    for deployment in rig.kube.names("deployments"):
        for pod in rig.kube.pods.of(rig.kube.get("deployments", deployment)):
            rig.kube.pods.end(pod)
    after = rig.apply(wish())

    assert not [line for line in during if "deployments" in line]
    assert after == ["apply deployments/churn-r1", "apply deployments/churn-gateway"]


def test_an_object_that_replaced_the_seen_one_is_not_deleted(rig: Rig) -> None:
    rig.apply(wish())
    stale = copy.deepcopy(rig.kube.get("services", "churn"))
    stale["metadata"]["uid"] = "another"
    stale["kind"] = "Service"

    with pytest.raises(Exception, match="UID"):
        rig.target._cluster.delete(stale)

    assert "churn" in rig.kube.names("services")


IMAGE = "spec.template.spec.containers.0.image"


@pytest.mark.parametrize(
    ("what", "path", "value", "said"),
    [
        ("deployments/churn-r1", "spec.replicas", 7, "spec.replicas"),
        ("deployments/churn-r1", IMAGE, "x", "spec.template.spec.containers[server].image"),
        ("networkpolicies/churn-r1", "spec.egress", [{}], "spec.egress[0].ports"),
        ("networkpolicies/churn-r1", "spec.egress", [{}, {}], "spec.egress"),
        ("services/churn-r1", "spec.ports.0.targetPort", 1, "spec.ports[http].targetPort"),
        ("secrets/churn-r1-env", "data", {"A": "b3RoZXI="}, "data"),
    ],
)
def test_what_somebody_changes_of_a_revision_is_named(
    rig: Rig, what: str, path: str, value: object, said: str
) -> None:
    plural, _, name = what.partition("/")
    rig.run(wish(revisions=[revision(secrets={"A": "1"})]))
    kind = rig.kube.get(plural, name)["kind"]

    rig.edit(plural, name, path, value)

    assert rig.seen().revisions[0].drifted == (f"{kind} {name}: {said}",)


def test_drift_is_repaired_by_the_next_application(rig: Rig) -> None:
    rig.run(wish())
    rig.edit("deployments", "churn-r1", "spec.replicas", 7)
    rig.edit("networkpolicies", "churn-r1", "spec.egress", [{}])

    written = rig.apply(wish())

    assert written == ["apply networkpolicies/churn-r1", "apply deployments/churn-r1"]
    assert rig.kube.get("deployments", "churn-r1")["spec"]["replicas"] == 1
    assert rig.seen().revisions[0].drifted == ()


def test_what_others_add_is_no_drift_and_stays(rig: Rig) -> None:
    rig.run(wish())
    template = "spec.template.spec."
    sidecar = {"name": "proxy", "image": "mesh"}
    own = rig.kube.get("deployments", "churn-r1")["spec"]["template"]["spec"]["containers"]
    rig.edit("deployments", "churn-r1", template + "containers", [sidecar, *own])
    rig.edit("deployments", "churn-r1", "metadata.annotations.note", "mine")

    assert rig.seen().revisions[0].drifted == ()
    assert rig.apply(wish()) == []
    assert rig.kube.get("deployments", "churn-r1")["metadata"]["annotations"]["note"] == "mine"


@pytest.mark.parametrize(
    ("plural", "name", "title"),
    [
        ("services", "churn-r1", "Service churn-r1"),
        ("networkpolicies", "churn-r1", "NetworkPolicy churn-r1"),
        ("deployments", "churn-r1", "Deployment churn-r1"),
    ],
)
def test_what_somebody_deleted_of_a_revision_is_missed_and_made_again(
    rig: Rig, plural: str, name: str, title: str
) -> None:
    rig.run(wish())
    rig.kube.store.delete(plural, name)

    assert rig.seen().revisions[0].drifted == (f"{title}: missing",)
    assert rig.apply(wish()) == [f"apply {plural}/{name}"]


def test_a_changed_gateway_is_said_and_put_back(rig: Rig) -> None:
    rig.run(wish())
    rig.edit("secrets", "churn-gateway", "data", {"gateway.json": "e30="})
    rig.kube.store.delete("services", "churn")

    said = [(reason.code, reason.text) for reason in rig.seen().reasons]

    assert said == [
        ("Drifted", "somebody changed Secret churn-gateway: data: it will be put back"),
        ("Drifted", "somebody changed Service churn: missing: it will be put back"),
    ]
    assert rig.apply(wish()) == ["apply secrets/churn-gateway", "apply services/churn"]


def test_replicas_stay_as_they_are_when_an_autoscaler_takes_over(rig: Rig) -> None:
    rig.run(wish(revisions=[revision(scale=Scale(3))]))
    scaled = wish(2, [revision(scale=Scale(2, 5))])

    rig.apply(scaled)
    kept = rig.kube.get("deployments", "churn-r1")["spec"]["replicas"]
    rig.edit("deployments", "churn-r1", "spec.replicas", 5)  # as the autoscaler does
    again = rig.apply(scaled)

    assert kept == 3
    assert not [line for line in again if "deployments" in line]
    assert rig.kube.get("deployments", "churn-r1")["spec"]["replicas"] == 5
    assert rig.seen().revisions[0].drifted == ()


def test_a_fixed_number_of_replicas_can_be_had_again_after_an_autoscaler(rig: Rig) -> None:
    rig.run(wish(revisions=[revision(scale=Scale(2, 5))]))
    rig.edit("deployments", "churn-r1", "spec.replicas", 4)

    rig.apply(wish(2, [revision(scale=Scale(3))]))

    assert rig.kube.get("deployments", "churn-r1")["spec"]["replicas"] == 3
    assert rig.kube.names("horizontalpodautoscalers") == []


def test_images_are_pulled_with_a_secret_of_the_services_own(tmp_path: Path) -> None:
    pulling = Pulling('{"auths": {"images.example": {"auth": "aHVzaA=="}}}', ("corporate",))

    with kube_fixtures.rig(tmp_path, pulling=pulling) as rig:
        rig.run(wish())
        names = [
            entry["name"]
            for entry in rig.kube.get("deployments", "churn-r1")["spec"]["template"]["spec"][
                "imagePullSecrets"
            ]
        ]
        rig.target.delete(SERVICE)
        left = rig.kube.names("secrets")

    assert names == ["churn-pull", "corporate"]
    assert left == []


def test_a_route_that_the_cluster_does_not_know_is_refused_by_name(rig: Rig) -> None:
    rig.kube.gateway_api = False

    with pytest.raises(RefusedError, match=r"HTTPRoute churn.*does not have that kind of object"):
        rig.apply(wish(route=Route("churn.example", "infra/public")))

    assert rig.target.services() == (SERVICE,)
    rig.target.delete(SERVICE)
    assert rig.seen().condition is Condition.ABSENT


def test_more_objects_than_one_page_are_all_seen(rig: Rig) -> None:
    rig.run(two(1, {"r1": 100}))
    rig.kube.page = 1

    assert len(rig.seen().revisions) == 2
    rig.target.delete(SERVICE)
    assert rig.kube.names("services") == []


def test_a_service_of_any_name_is_known_again_by_it(rig: Rig) -> None:
    name = "9-" + "a-very-long-name" * 3
    rig.apply(wish(service=name))

    assert rig.target.services() == (name,)
    assert rig.target.observe(name).service == name
    assert rig.target.observe(name).condition is Condition.STARTING
    rig.target.delete(name)
    assert rig.target.services() == ()


def test_values_of_secrets_are_never_read(rig: Rig) -> None:
    wanted = wish(revisions=[revision(secrets={"A": "hush-hush"})])
    rig.run(wanted)
    rig.apply(replace(wanted, generation=2))
    rig.seen()

    assert "hush-hush" not in repr(wanted)
    assert all("data" not in one for one in rig.target._objects(SERVICE))


QUESTION = Question(
    "/v2/models/churn-model/versions/1/infer", b'{"inputs": []}', {"X-API-Key": "k"}
)


def test_a_revision_is_asked_through_a_ready_gateways_pod_with_a_key(rig: Rig) -> None:
    """The API server keeps Authorization, by which it knows us, to itself."""
    gateway = rig.run(wish(2, gateway_replicas=2))

    status, body = rig.target.ask(SERVICE, 1, QUESTION)

    ((pod, path, request),) = rig.kube.pods.asked
    headers = {name.lower(): value for name, value in request.headers.items()}
    assert (status, json.loads(body)) == (200, {"outputs": []})
    assert (pod, path) == (gateway, QUESTION.path)
    assert (headers["x-api-key"], headers["x-packhorse-revision"]) == ("k", "r1")
    assert headers["content-type"] == "application/json"
    assert request.body == QUESTION.body


def test_an_error_of_the_gateway_is_an_answer_and_one_of_the_api_server_is_not(rig: Rig) -> None:
    gateway = rig.run(wish())
    rig.kube.pods.answers = lambda _pod, _request: (401, {"error": "no such key"})
    assert rig.target.ask(SERVICE, 1, QUESTION) == (401, b'{"error": "no such key"}')

    del rig.kube.pods.statuses[gateway]
    with pytest.raises(UnreachableError, match="refused"):
        rig.target.ask(SERVICE, 1, QUESTION)

    rig.kube.granted.discard(("create", "", "pods/proxy"))
    with pytest.raises(RefusedError, match="does not allow Packhorse to create pods/proxy"):
        rig.target.ask(SERVICE, 1, QUESTION)


def test_a_service_without_a_ready_gateway_is_not_asked(rig: Rig) -> None:
    rig.target.apply(wish())
    rig.kube.pods.start("churn-gateway", ready=False)

    with pytest.raises(UnreachableError, match="no gateway of it is ready"):
        rig.target.ask(SERVICE, 1, QUESTION)
