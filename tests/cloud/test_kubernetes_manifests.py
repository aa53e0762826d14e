import base64
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cloud.hosting.errors import RefusedError
from cloud.hosting.kubernetes import kinds, manifests, marks, names, pods, quantities
from cloud.hosting.kubernetes.pulling import Pulling
from cloud.hosting.targets import Resources, Route, Scale, Wish
from runtime.gateway import config
from tests.support.kube_wishes import revision, wish

VERSIONS = ("1.30", "1.33", "1.36", "1.37")
GOLDEN = Path(__file__).parents[1] / "golden" / "kubernetes"
FULL = wish(
    7,
    [
        revision(
            1,
            resources=Resources(0.5, 2048, 1),
            scale=Scale(2, 5, 70),
            env={"LEVEL": "high", "PRICE": "5$"},
            secrets={"TOKEN": "hush-hush"},
            node_selector={"pool": "gpu"},
        ),
        revision(2),
    ],
    {"r1": 90, "r2": 10},
    gateway_replicas=2,
    route=Route("churn.example", "infra/public"),
)
INGRESS = replace(FULL, route=Route("churn.example", None, "nginx", "churn-tls"))
PULLING = Pulling('{"auths": {"images.example": {"auth": "aHVzaA=="}}}', ("corporate",))
Object = dict[str, Any]


def made(wanted: Wish, kind: str, name: str, pulling: Pulling | None = None) -> Object:
    found = [
        one
        for one in manifests.build(wanted, pulling)
        if one["kind"] == kind and kinds.name(one) == name
    ]
    (only,) = found
    return only


def pod_of(wanted: Wish, name: str) -> Object:
    spec: Object = made(wanted, "Deployment", name)["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize(
    ("wanted", "version"),
    [*((FULL, version) for version in VERSIONS), (INGRESS, "1.36"), (wish(), "1.36")],
)
def test_every_object_is_one_that_kubernetes_knows_to_the_last_field(
    wanted: Wish, version: str
) -> None:
    built_in = [one for one in manifests.build(wanted, PULLING) if one["kind"] != "HTTPRoute"]

    for manifest in built_in:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_role_that_is_shipped_is_one_that_kubernetes_knows() -> None:
    shipped = Path(__file__).parents[2] / "deploy" / "kubernetes"

    for file in ("role.yaml", "rolebinding.yaml", "serviceaccount.yaml"):
        manifest = yaml.safe_load((shipped / file).read_text())
        kubernetes_validate.validate(manifest, "1.36", strict=True)


@pytest.mark.parametrize("name", ["Deployment/churn-r1", "Deployment/churn-gateway"])
def test_deployments_are_as_reviewed(name: str) -> None:
    kind, _, own = name.partition("/")
    manifest = made(FULL, kind, own, PULLING)
    del manifest["metadata"]["annotations"][marks.APPLIED]

    golden = yaml.safe_load((GOLDEN / f"{own}.yaml").read_text())
    assert manifest == golden


def test_objects_are_made_before_what_needs_them() -> None:
    order = [one["kind"] for one in manifests.build(FULL)]

    assert order == sorted(order, key=[kind.name for kind in kinds.MADE].index)
    assert order.index("Secret") < order.index("Deployment")


@pytest.mark.parametrize("name", ["churn-r1", "churn-gateway"])
def test_pods_meet_the_restricted_pod_security_standard(name: str) -> None:
    spec = pod_of(FULL, name)

    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert all(set(volume) & {"emptyDir", "secret"} for volume in spec["volumes"])
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
    }


def test_a_pod_has_time_to_answer_what_it_has_after_it_left_the_endpoints() -> None:
    spec = pod_of(FULL, "churn-r1")

    before = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert spec["terminationGracePeriodSeconds"] >= before + 60


def test_no_replica_goes_before_another_is_ready() -> None:
    for name in ("churn-r1", "churn-gateway"):
        strategy = made(FULL, "Deployment", name)["spec"]["strategy"]

        assert strategy["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}


def test_secret_values_stand_in_the_secret_alone() -> None:
    objects = manifests.build(FULL, PULLING)

    holders = [
        kinds.title(one)
        for one in objects
        if "hush-hush" in json.dumps(one)
        or base64.b64encode(b"hush-hush").decode() in json.dumps(one)
        or "aHVzaA" in json.dumps({**one, "data": {}})
    ]
    assert holders == ["Secret churn-r1-env"]
    assert "hush-hush" not in json.dumps(objects[0])
    assert "aHVzaA" not in repr(PULLING)


def test_secret_variables_cannot_be_changed_once_made() -> None:
    assert made(FULL, "Secret", "churn-r1-env")["immutable"] is True


def test_variables_mean_what_was_given_although_kubernetes_replaces_dollars() -> None:
    env = {one["name"]: one for one in pod_of(FULL, "churn-r1")["containers"][0]["env"]}

    assert env["PRICE"]["value"] == "5$$"
    assert env["TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "churn-r1-env", "key": "TOKEN"}


def test_the_autoscaler_alone_sets_the_number_of_replicas() -> None:
    assert "replicas" not in made(FULL, "Deployment", "churn-r1")["spec"]
    assert made(FULL, "Deployment", "churn-r2")["spec"]["replicas"] == 1
    scaler = made(FULL, "HorizontalPodAutoscaler", "churn-r1")["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (2, 5)
    assert scaler["metrics"][0]["resource"]["target"]["averageUtilization"] == 70


def test_a_budget_is_made_only_where_a_drain_can_leave_a_replica() -> None:
    budgets = [kinds.name(one) for one in manifests.build(FULL) if one["kind"] == kinds.BUDGET.name]

    assert budgets == ["churn-r1", "churn-gateway"]


def test_an_autoscaled_revision_requests_cpu_even_if_none_was_given() -> None:
    scaled = wish(revisions=[revision(scale=Scale(1, 3))])

    resources = pod_of(scaled, "churn-r1")["containers"][0]["resources"]
    assert resources == {"requests": {"cpu": "500m", "memory": "128Mi"}}


def test_gpus_are_asked_for_and_their_nodes_tolerated() -> None:
    spec = pod_of(FULL, "churn-r1")

    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    assert spec["nodeSelector"] == {"pool": "gpu"}


def test_the_gateway_is_told_both_names_of_each_revision() -> None:
    secret = made(FULL, "Secret", "churn-gateway")
    told = config.decode(base64.b64decode(secret["data"][pods.CONFIG_FILE]))

    assert told.revisions[0].backends == ("churn-r1-each:8080", "churn-r1:8080")
    assert told.revisions[1].grpc_backends == ("churn-r2-each:8081", "churn-r2:8081")
    assert made(FULL, "Service", "churn-r1-each")["spec"]["clusterIP"] == "None"
    assert "clusterIP" not in made(FULL, "Service", "churn-r1")["spec"]


def test_replicas_are_reached_by_their_own_gateways_alone_and_reach_dns_alone() -> None:
    spec = made(FULL, "NetworkPolicy", "churn-r1")["spec"]

    (ingress,) = spec["ingress"]
    assert ingress["from"] == [{"podSelector": {"matchLabels": names.gateways("churn")}}]
    assert {port["port"] for rule in spec["egress"] for port in rule["ports"]} == {53, 5353}
    assert spec["policyTypes"] == ["Ingress", "Egress"]


def test_the_admin_port_is_in_no_service() -> None:
    services = [one for one in manifests.build(FULL) if one["kind"] == "Service"]

    ports = {port["targetPort"] for one in services for port in one["spec"]["ports"]}
    assert ports == {"http", "grpc"}


def test_an_http_route_leads_to_the_gateway_of_the_service() -> None:
    route = made(FULL, "HTTPRoute", "churn")

    assert route["spec"]["parentRefs"][0]["namespace"] == "infra"
    assert route["spec"]["rules"][0]["backendRefs"][0]["name"] == "churn"
    assert route["spec"]["hostnames"] == ["churn.example"]


def test_a_change_of_weights_changes_the_gateways_secret_alone() -> None:
    before = {kinds.title(one): one for one in manifests.build(FULL)}
    other = replace(
        FULL,
        generation=8,
        gateway=config.Config("churn", 8, (config.Revision("r1", 50), config.Revision("r2", 50))),
    )

    after = {kinds.title(one): one for one in manifests.build(other)}

    assert [title for title in after if after[title] != before[title]] == ["Secret churn-gateway"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scale": Scale(0)}, "r1.scale.least"),
        ({"scale": Scale(3, 2)}, "r1.scale.most"),
        ({"scale": Scale(1, 2, 0)}, "r1.scale.cpu_percent"),
        ({"resources": Resources(cpu=0)}, "r1.resources.cpu"),
        ({"resources": Resources(memory_mb=-1)}, "r1.resources.memory_mb"),
        ({"resources": Resources(gpus=-1)}, "r1.resources.gpus"),
        ({"image": ""}, "r1.image"),
        ({"number": 0}, "number"),
        ({"env": {"a b": ""}}, "r1.env"),
        ({"env": {"A": ""}, "secrets": {"A": ""}}, "r1.secrets"),
        ({"secrets": {"A": "x" * (1 << 20)}}, "r1.secrets"),
        ({"node_selector": {"pool": "no spaces"}}, "r1.node_selector"),
    ],
)
def test_what_kubernetes_would_refuse_is_named_before_anything_is_sent(
    change: dict[str, Any], field: str
) -> None:
    with pytest.raises(RefusedError, match=field.replace(".", r"\.")):
        manifests.build(wish(revisions=[revision(**change)], weights={}))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"gateway_replicas": 0}, "gateway_replicas"),
        ({"gateway_image": ""}, "gateway_image"),
        ({"route": Route("Not A Host")}, "route.host"),
        ({"route": Route("a.example", "no-slash")}, "route.gateway_api"),
        ({"revisions": (revision(), revision())}, "revisions"),
        ({"revisions": ()}, "the gateway names r1"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(RefusedError, match=field):
        manifests.build(replace(wish(), **change))


SERVICES = st.one_of(
    st.from_regex(r"[a-z0-9-]{1,63}", fullmatch=True),
    st.from_regex(r"[a-z]{1,5}(-r[0-9]{1,3})?(-each|-env|-gateway|-pull)?", fullmatch=True),
    st.text(min_size=1, max_size=80),
)
LABEL = r"[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?"


@given(SERVICES, st.integers(1, 999_999_999))
def test_names_are_such_as_kubernetes_takes(service: str, number: int) -> None:
    made_of = (names.each, names.env, names.revision)
    all_names = [names.base(service), names.gateway(service), names.pull(service)]
    all_names += [make(service, number) for make in made_of]

    for name in all_names:
        assert len(name) <= 57, "what makes a pod unique needs room"  # 63 with "-" and 5 more
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)


@given(st.text(max_size=200))
def test_labels_are_such_as_kubernetes_takes(value: str) -> None:
    label = names.label(value)
    assert not label or re.fullmatch(LABEL, label)
    assert bool(label) == bool(value)


@given(st.lists(SERVICES, min_size=2, max_size=8, unique=True), st.integers(1, 99))
def test_no_object_of_a_service_has_the_name_of_anothers(services: list[str], number: int) -> None:
    def objects(service: str) -> set[tuple[str, str]]:
        wanted = wish(revisions=[revision(number, secrets={"A": "1"})], service=service)
        return {(one["kind"], kinds.name(one)) for one in manifests.build(wanted, PULLING)}

    every = [one for service in services for one in objects(service)]

    assert len(every) == len(set(every))


@given(st.integers(1, 1 << 24))
def test_memory_is_written_as_the_server_keeps_it(mebibytes: int) -> None:
    text = quantities.memory(mebibytes)

    factor = {"Mi": 1, "Gi": 1 << 10, "Ti": 1 << 20}[text[-2:]]
    assert int(text[:-2]) * factor == mebibytes
    assert int(text[:-2]) % 1024 or text.endswith("Ti")


@given(st.integers(1, 1_000_000))
def test_cpu_is_written_as_the_server_keeps_it(milli: int) -> None:
    text = quantities.cpu(milli / 1000)

    whole = int(text[:-1]) if text.endswith("m") else int(text) * 1000
    assert whole == milli
    assert text.endswith("m") == bool(milli % 1000)
