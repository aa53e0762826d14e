from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cloud.hosting.targets import Condition, Reason, Route, Scale
from tests.support import kube_fixtures
from tests.support.kube_fixtures import Rig
from tests.support.kube_wishes import SERVICE, revision, wish

R1 = "churn-r1"
ENDED = {"exitCode": 3, "reason": "Error"}
KILLED = {"exitCode": 137, "reason": "OOMKilled"}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s"}}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with kube_fixtures.rig(tmp_path) as made:
        made.target.apply(wish())
        gateway = made.kube.pods.start("churn-gateway")
        made.kube.pods.say(gateway, 1)
        made.clock.now += 5
        yield made


def why(rig: Rig) -> Reason:
    (only,) = rig.seen().revisions[0].reasons
    return only


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


@pytest.mark.parametrize(
    "reason",
    [
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "CreateContainerConfigError",
        "CreateContainerError",
    ],
)
def test_a_container_that_cannot_be_made_says_why_in_the_clusters_words(
    rig: Rig, reason: str
) -> None:
    pod = rig.kube.pods.be(R1, **waiting(reason, "no such\nthing"))

    seen = rig.seen()

    assert why(rig).code == reason
    assert why(rig).text.startswith("no such thing")
    assert why(rig).replica == pod
    assert (seen.revisions[0].condition, seen.condition) == (Condition.FAILING, Condition.FAILING)


def test_a_crashing_replica_shows_its_exit_code_and_what_it_wrote_last(rig: Rig) -> None:
    pod = rig.kube.pods.be(R1, state=BACK_OFF, lastState={"terminated": ENDED}, restartCount=4)
    rig.kube.pods.previous[pod] = [f"line {number}" for number in range(30)]

    reason = why(rig)

    assert (reason.code, reason.exit_code) == ("CrashLoopBackOff", 3)
    assert "exit code 3, 4 restarts" in reason.text
    assert reason.last_log == tuple(f"line {number}" for number in range(10, 30))


def test_a_replica_killed_for_its_memory_is_told_apart_from_one_that_crashes(rig: Rig) -> None:
    rig.kube.pods.be(R1, state=BACK_OFF, lastState={"terminated": KILLED}, restartCount=1)

    assert (why(rig).code, why(rig).exit_code) == ("OOMKilled", 137)
    assert "give it more memory" in why(rig).text


def test_a_replica_that_has_just_ended_shows_the_log_of_this_very_run(rig: Rig) -> None:
    pod = rig.kube.pods.be(R1, state={"terminated": ENDED}, restartCount=0)
    rig.kube.pods.write(pod, "2026-01-01T00:00:01Z", "no model here")

    assert (why(rig).code, why(rig).last_log) == ("exited", ("no model here",))


def test_a_log_that_the_node_has_thrown_away_does_not_hide_the_reason(rig: Rig) -> None:
    pod = rig.kube.pods.be(R1, state=BACK_OFF, lastState={"terminated": ENDED})
    rig.kube.failures["get", "pods/log"] = kube_fixtures.kube.StatusError(500, "", "gone")

    assert (why(rig).code, why(rig).replica, why(rig).last_log) == ("CrashLoopBackOff", pod, ())


def test_a_pod_without_a_node_says_what_the_scheduler_says(rig: Rig) -> None:
    said = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    rig.kube.pods.be(R1, scheduled={**condition, "message": said})

    assert (why(rig).code, said in why(rig).text) == ("Unschedulable", True)


def test_a_pod_that_cannot_mount_says_so_from_its_events(rig: Rig) -> None:
    pod = rig.kube.pods.be(R1, **waiting("ContainerCreating"))
    assert rig.seen().revisions[0].condition is Condition.STARTING

    rig.kube.pods.warn(pod, "FailedMount", 'secret "churn-r1-env" not found')

    assert why(rig).code == "FailedMount"
    assert 'secret "churn-r1-env" not found' in why(rig).text


def test_a_pod_that_is_being_made_is_no_trouble(rig: Rig) -> None:
    rig.kube.pods.be(R1, **waiting("ContainerCreating"))

    seen = rig.seen()

    assert (seen.condition, seen.revisions[0].condition) == (Condition.STARTING,) * 2
    assert seen.revisions[0].reasons == ()


def test_a_model_that_is_loading_is_no_trouble_however_long_it_takes(rig: Rig) -> None:
    pod = rig.kube.pods.be(R1, state={"running": {}}, started=False)
    rig.kube.pods.warn(pod, "Unhealthy", "Startup probe failed")
    rig.clock.now += 500

    assert rig.seen().revisions[0].condition is Condition.STARTING


def test_a_replica_that_stops_to_answer_its_probe_says_so_after_a_while(rig: Rig) -> None:
    pod = rig.kube.pods.be(R1, state={"running": {}}, started=True)
    rig.kube.pods.warn(pod, "Unhealthy", "Readiness probe failed: statuscode: 503")
    assert rig.seen().revisions[0].reasons == ()

    rig.clock.now += 10

    assert (why(rig).code, "503" in why(rig).text) == ("Unhealthy", True)


@pytest.mark.parametrize(
    "text",
    [
        'pods "x" is forbidden: exceeded quota: team, requested: cpu=4, used: cpu=8',
        'pods "x" is forbidden: maximum memory usage per Container is 1Gi',
        'pods "x" is forbidden: violates PodSecurity "restricted:latest"',
    ],
)
def test_pods_that_may_not_be_made_say_why(rig: Rig, text: str) -> None:
    rig.kube.pods.condition(R1, "ReplicaFailure", "True", "FailedCreate", text)

    assert why(rig).code == "FailedCreate"
    assert why(rig).text.startswith(text)


def test_a_deployment_that_makes_no_progress_is_failing(rig: Rig) -> None:
    rig.kube.pods.condition(R1, "Progressing", "False", "ProgressDeadlineExceeded", "timed out")

    assert why(rig).code == "ProgressDeadlineExceeded"
    assert rig.seen().revisions[0].condition is Condition.FAILING


def test_an_evicted_pod_that_nothing_replaced_says_why(rig: Rig) -> None:
    pod = rig.kube.pods.be(R1, state={})
    status = {**rig.kube.get("pods", pod)["status"], "phase": "Failed", "reason": "Evicted"}
    rig.edit("pods", pod, "status", {**status, "message": "The node was low on memory."})

    assert (why(rig).code, "low on memory" in why(rig).text) == ("Evicted", True)


def test_a_service_with_some_replicas_is_degraded_and_with_all_of_them_ready(rig: Rig) -> None:
    rig.target.apply(wish(revisions=[revision(scale=Scale(2))]))
    rig.kube.pods.start(R1, number=0)
    half = rig.seen()
    rig.kube.pods.be(R1, number=1, **waiting("ImagePullBackOff"))
    broken = rig.seen()
    rig.kube.pods.start(R1, number=1)
    whole = rig.seen()

    states = [(seen.condition, seen.revisions[0].condition) for seen in (half, broken, whole)]
    assert states == [
        (Condition.STARTING, Condition.STARTING),
        (Condition.DEGRADED, Condition.DEGRADED),
        (Condition.READY, Condition.READY),
    ]
    assert [seen.revisions[0].ready for seen in (half, broken, whole)] == [1, 1, 2]


def test_pods_that_are_told_to_end_are_no_trouble(rig: Rig) -> None:
    rig.kube.pods.start(R1)
    old = rig.kube.pods.be(R1, number=9, state={"terminated": ENDED})
    rig.kube.store.mark_deleted("pods", old)

    assert rig.seen().condition is Condition.READY


def test_a_gateway_in_trouble_is_the_services_trouble(rig: Rig) -> None:
    rig.kube.pods.start(R1)
    rig.kube.pods.be("churn-gateway", **waiting("ImagePullBackOff", "no gateway image"))

    seen = rig.seen()

    assert (seen.condition, seen.gateway_ready) == (Condition.FAILING, 0)
    assert seen.revisions[0].condition is Condition.READY
    assert seen.reasons[0].text.startswith("no gateway image")


def test_a_service_is_as_its_revisions_with_traffic_are(rig: Rig) -> None:
    rig.kube.pods.start(R1)
    both = [revision(1), revision(2)]
    rig.target.apply(wish(2, both, {"r1": 100, "r2": 0}))
    rig.kube.pods.be("churn-r2", **waiting("ImagePullBackOff"))
    without = rig.seen().condition
    rig.target.apply(wish(3, both, {"r1": 90, "r2": 10}))
    some = rig.seen().condition
    rig.target.apply(wish(4, both, {"r1": 0, "r2": 100}))
    alone = rig.seen().condition

    assert (without, some, alone) == (Condition.READY, Condition.DEGRADED, Condition.FAILING)


def test_the_generation_is_that_of_the_gateway_which_lags(rig: Rig) -> None:
    rig.kube.pods.say(rig.kube.pods.start("churn-gateway", number=1), 3)
    one_lags = rig.seen().generation
    rig.kube.pods.start("churn-gateway", number=2)
    one_is_silent = rig.seen().generation

    assert (one_lags, one_is_silent) == (1, 0)


def test_what_no_gateway_can_reach_is_not_ready_however_its_probes_are(rig: Rig) -> None:
    rig.kube.pods.start(R1)
    gateway = rig.kube.names("pods")[0]
    rig.kube.pods.say(gateway, 1, healthy={"r1": []})

    early = rig.seen().revisions[0]
    rig.clock.now += 60
    late = rig.seen().revisions[0]
    rig.kube.pods.say(gateway, 1, healthy={"r1": ["10.0.0.1:8080"]})

    assert (early.condition, early.reasons) == (Condition.STARTING, ())
    assert (late.condition, late.reasons[0].code) == (Condition.FAILING, "Unreached")
    assert rig.seen().revisions[0].condition is Condition.READY


def test_an_autoscaler_that_cannot_measure_says_so_and_the_revision_is_ready(rig: Rig) -> None:
    rig.target.apply(wish(revisions=[revision(scale=Scale(1, 3))]))
    rig.kube.pods.start(R1)
    condition = {"type": "ScalingActive", "status": "False", "reason": "FailedGetResourceMetric"}
    rig.edit("horizontalpodautoscalers", R1, "status", {"conditions": [condition]})
    early = rig.seen().revisions[0].reasons
    rig.clock.now += 200

    assert early == ()
    assert why(rig).code == "FailedGetResourceMetric"
    assert rig.seen().revisions[0].condition is Condition.READY


def test_an_autoscaled_revision_wants_as_many_as_its_autoscaler_does(rig: Rig) -> None:
    rig.target.apply(wish(revisions=[revision(scale=Scale(2, 5))]))
    first = rig.seen().revisions[0].wanted
    rig.edit("deployments", R1, "spec.replicas", 4)

    assert (first, rig.seen().revisions[0].wanted) == (2, 4)


def test_a_service_scaled_to_nothing_by_hand_is_failing_and_drifted(rig: Rig) -> None:
    rig.edit("deployments", R1, "spec.replicas", 0)

    seen = rig.seen().revisions[0]

    assert (seen.condition, seen.reasons[0].code) == (Condition.FAILING, "ScaledToZero")
    assert seen.drifted == ("Deployment churn-r1: spec.replicas",)


def test_a_service_that_is_being_removed_is_not_absent_yet(rig: Rig) -> None:
    rig.kube.pods.start(R1)
    rig.target.delete(SERVICE)

    seen = rig.seen()

    assert seen.condition is Condition.DEGRADED
    assert {reason.code for reason in seen.reasons} == {"Terminating"}
    assert seen.revisions[0].reasons[0].code == "Terminating"


def test_endpoints_are_the_routes_and_the_name_inside_the_cluster(rig: Rig) -> None:
    rig.target.apply(wish(route=Route("churn.example", None, "nginx", "tls")))

    assert rig.seen().endpoints == (
        "https://churn.example",
        "http://churn.models.svc",
        "grpc://churn.models.svc:8081",
    )


def test_a_route_that_its_gateway_refuses_says_why(rig: Rig) -> None:
    rig.target.apply(wish(route=Route("churn.example", "infra/public")))
    refused = {"type": "Accepted", "status": "False", "reason": "NotAllowedByListeners"}
    parents = [{"conditions": [{**refused, "message": "another namespace"}]}]
    rig.edit("httproutes", "churn", "status", {"parents": parents})

    (reason,) = rig.seen().reasons

    assert reason.code == "NotAllowedByListeners"
    assert "another namespace" in reason.text


def test_only_a_few_of_many_broken_pods_cost_a_request_each(rig: Rig) -> None:
    rig.target.apply(wish(revisions=[revision(scale=Scale(40))]))
    for number in range(40):
        rig.kube.pods.be(
            R1, number=number, state=BACK_OFF, lastState={"terminated": ENDED}, restartCount=1
        )
        rig.kube.pods.previous[f"{R1}-5d4f-{number}"] = ["boom"]

    reasons = rig.seen().revisions[0].reasons

    assert len(reasons) == 40
    assert sum(bool(reason.last_log) for reason in reasons) == 6
