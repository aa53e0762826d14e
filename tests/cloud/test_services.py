"""Services, from the API to a target in memory."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError

from cloud.hosting.controller import Controller
from cloud.hosting.targets import Condition, Reason
from cloud.services import Change
from runtime.clock import SystemClock
from tests.support import hosting, registries
from tests.support.brokers import eventually
from tests.support.hosting import DOCKER, SERVICES, Host
from tests.support.memory_target import MemoryTarget, crashed, line
from tests.support.registries import Stores


@pytest.fixture
def host(tmp_path: Path, stores: Stores) -> Iterator[Host]:
    with hosting.hosting(tmp_path / "data", stores=stores) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One on SQLite, where the kind of store makes no difference."""
    place = tmp_path_factory.mktemp("hosting")
    with hosting.hosting(place, docker_hosts="gpu=ssh://me@gpu.example") as made:
        yield made


@pytest.fixture
def plain(shared: Host) -> Iterator[Host]:
    """A service name of its own on that one."""
    with hosting.alone(shared) as made:
        yield made


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Host]:
    """A registry of its own."""
    with hosting.hosting(tmp_path / "data") as made:
        yield made


def problem(host: Host, status: int, method: str, path: str, body: Any = None) -> str:
    """Ask for what must be refused; return why it was."""
    answer = host.registry.http.request(method, f"{SERVICES}{path}", json=body)
    detail: str = registries.checked(answer, status)["detail"]
    return detail


def revision(detail: Any, name: str) -> Any:
    return next(each for each in detail["revisions"] if each["name"] == name)


def test_a_service_is_built_started_and_given_the_traffic(host: Host) -> None:
    made = host.deploy(version=1, env={"MODE": "fast"}, secrets={"TOKEN": "hidden"})
    shown = host.show()

    assert made["created"]
    assert made["key"].startswith("phs_")
    assert (shown["condition"], shown["settled"], shown["rollout"]) == ("ready", True, None)
    assert shown["endpoints"] == ["http://127.0.0.1:18080/digits"]
    assert shown["traffic"] == {"r1": 100}
    assert (shown["generation"], shown["stable"]) == (shown["in_force"], "r1")
    wished = host.target.wished("digits", 1)
    assert (wished.env, wished.secrets) == ({"MODE": "fast"}, {"TOKEN": "hidden"})
    assert host.kinds() == ["created", "key_added", "ready", "promoted"]


def test_secrets_are_neither_shown_nor_stored_readably(plain: Host) -> None:
    plain.deploy(secrets={"TOKEN": "hidden-value"})
    with plain.registry.services.engine.connect() as connection:
        stored = connection.exec_driver_sql("SELECT secrets FROM service_revision").scalar_one()
    told = plain.registry.http.get("/api/v1/events?limit=200").text + str(plain.show())

    assert b"hidden-value" not in bytes(stored)
    assert "hidden-value" not in told
    assert revision(plain.show(), "r1")["secrets"] == ["TOKEN"]


def test_the_same_wish_again_changes_nothing(plain: Host) -> None:
    wish = {"version": 1, "secrets": {"TOKEN": "hidden"}, "env": {"A": "1"}}
    plain.deploy(**wish)
    before = plain.kinds()
    again = plain.deploy(**wish, status=200)

    assert (again["created"], again["changed"], again["key"]) == (False, [], None)
    assert plain.kinds() == before


@pytest.mark.parametrize(
    "other",
    [{"version": 2}, {"env": {"A": "2"}}, {"secrets": {"A": "x"}}, {"resources": {"cpu": 2}}],
)
def test_another_wish_is_refused_or_makes_a_revision(plain: Host, other: dict[str, Any]) -> None:
    plain.deploy(version=1)
    wish = {"name": plain.name, "model": "scale", "target": DOCKER, "version": 1, **other}

    assert "another revision: use" in problem(plain, 409, "POST", "", wish)
    made = plain.deploy(status=200, update=True, **{"version": 1, **other})
    assert (made["changed"], made["service"]["current"]) == (["revision"], "r2")
    assert plain.target.weights(plain.name) == {"r1": 0, "r2": 100}


def test_an_update_changes_what_is_given_and_nothing_else(plain: Host) -> None:
    plain.deploy(version=1, env={"A": "1"}, secrets={"S": "s"}, resources={"cpu": 2})
    plain.update(version="latest")
    wished = plain.target.wished(plain.name, 2)

    assert (wished.version, wished.env, wished.secrets) == (3, {"A": "1"}, {"S": "s"})
    assert wished.resources.cpu == 2


def test_gateway_settings_and_scale_change_without_a_revision(plain: Host) -> None:
    plain.deploy(version=1)
    made = plain.update(gateway={"timeout_s": 5}, scale={"least": 3})

    assert made["changed"] == ["gateway", "scale"]
    assert plain.target.there[plain.name].config.timeout_s == 5
    assert plain.target.wished(plain.name, 1).scale.least == 3


def test_a_change_of_what_somebody_else_changed_is_refused(plain: Host) -> None:
    plain.deploy(version=1)
    etag = plain.registry.http.get(f"{plain.path}").headers["etag"]
    plain.update(version=2)
    answer = plain.registry.http.patch(
        f"{plain.path}", json={"version": 3}, headers={"If-Match": etag}
    )

    assert answer.status_code == 412


def test_a_first_key_that_got_lost_on_the_way_is_shown_again(plain: Host) -> None:
    wish = {"name": plain.name, "model": "scale", "target": DOCKER}
    headers = {"Idempotency-Key": "once"}
    first = plain.registry.http.post(SERVICES, json=wish, headers=headers).json()
    again = plain.registry.http.post(SERVICES, json=wish, headers=headers).json()

    assert first["key"] == again["key"]


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        ({"name": "Digits"}, "name"),
        ({"target": {"kind": "nomad"}}, "target.kind"),
        ({"target": {"kind": "docker", "host": "elsewhere"}}, "docker_hosts: gpu"),
        ({"target": {"kind": "docker", "namespace": "x"}}, "only kubernetes knows it"),
        ({"target": {"kind": "kubernetes", "host": "gpu"}}, "only docker knows it"),
        ({"target": {"kind": "kubernetes", "namespace": "A/b"}}, "target.namespace"),
        ({"target": {"kind": "kubernetes"}, "port": 80}, "only docker publishes ports"),
        ({"scale": {"least": 1, "most": 3}}, "only kubernetes scales by load"),
        ({"target": {"kind": "kubernetes"}, "scale": {"least": 1, "most": 3}}, "resources.cpu"),
        ({"bind": "everywhere"}, "bind"),
        ({"route": {"host": "models.example"}}, "only kubernetes has routes"),
        ({"env": {"1A": "x"}}, "env"),
        ({"env": {"PACKHORSE_X": "x"}}, "PACKHORSE_"),
        ({"env": {"A": "x"}, "secrets": {"A": "y"}}, "it is in env too"),
        ({"gateway": {"replicas": 2}}, "docker has one gateway"),
        ({"strategy": {"kind": "canary", "steps": [50, 10]}}, "strategy.steps"),
        ({"strategy": {"kind": "by-hand"}}, "strategy.kind"),
        ({"base_image": "a b"}, "base_image"),
        ({"node_selector": {"a": "b"}}, "only kubernetes knows nodes"),
        ({"typo": 1}, "typo"),
    ],
)
def test_what_cannot_be_is_refused_by_name(plain: Host, wish: dict[str, Any], why: str) -> None:
    body = {"name": plain.name, "model": "scale", "target": DOCKER, **wish}

    assert why in problem(plain, 422, "POST", "", body)
    assert plain.registry.http.get(plain.path).status_code == 404


def test_a_version_that_is_not_there_is_not_served(plain: Host) -> None:
    body = {"name": plain.name, "model": "scale", "version": 9, "target": DOCKER}

    assert "scale:9" in problem(plain, 404, "POST", "", body)


def test_two_services_cannot_have_one_port(plain: Host) -> None:
    plain.deploy(port=8000)
    body = {"name": "other", "model": "scale", "target": DOCKER, "port": 8000}

    assert f"service {plain.name} has it" in problem(plain, 422, "POST", "", body)


def test_a_service_does_not_move_elsewhere(plain: Host) -> None:
    plain.deploy()
    body = {"name": plain.name, "model": "scale", "target": {"kind": "kubernetes"}, "update": True}

    assert "runs on docker" in problem(plain, 409, "POST", "", body)


CANARY = {
    "kind": "canary", "steps": [10, 100], "step_s": 20, "soak_s": 30,
    "gates": {"min_requests": 50},
}  # fmt: skip


def test_a_canary_that_does_well_ends_with_all_the_traffic(plain: Host) -> None:
    plain.deploy(version=1)
    plain.update(version=2, strategy=CANARY)
    assert plain.target.weights(plain.name) == {"r1": 90, "r2": 10}
    plain.target.serve(plain.name, 1000)
    plain.go_on(21)
    assert plain.show()["rollout"]["phase"] == "soaking"
    plain.go_on(31)
    plain.go_on(5)

    assert plain.target.weights(plain.name) == {"r2": 100}
    assert sorted(plain.target.there[plain.name].revisions) == [2]
    assert (plain.show()["stable"], plain.show()["previous"]) == ("r2", "r1")
    assert plain.kinds()[-4:] == ["updated", "traffic", "traffic", "promoted"]


def test_a_canary_that_fails_is_rolled_back_and_says_why(host: Host) -> None:
    host.deploy(version=1)
    host.update(version=2, strategy=CANARY)
    host.target.serve("digits", 1000, failing={"r2": 50})
    host.settle()
    shown = host.show()

    assert host.target.weights("digits") == {"r1": 100}
    assert sorted(host.target.there["digits"].revisions) == [1]
    assert "50 of 100 requests failed" in revision(shown, "r2")["failed_reason"]
    (told,) = host.events("rolled_back")
    assert told["revisions"] == ["r2"]
    assert "max_error_rate" in told["reason"]


def test_a_crashing_revision_is_rolled_back_with_the_targets_reason(plain: Host) -> None:
    plain.deploy(version=1)
    plain.target.failing[plain.name, 2] = crashed()
    plain.update(version=2, strategy={"progress_s": 60})
    assert "CrashLoopBackOff" in plain.show()["rollout"]["waiting"]
    assert revision(plain.show(), "r2")["reasons"][0]["exit_code"] == 1
    plain.go_on(61)

    assert plain.target.weights(plain.name) == {"r1": 100}
    assert "CrashLoopBackOff: it ends with exit code 1" in plain.events("rolled_back")[0]["reason"]


def test_an_image_that_cannot_be_built_costs_nothing(plain: Host) -> None:
    plain.deploy(version=1)
    bundle = plain.registry.get("/api/v1/models/scale/versions/2")["bundle"]
    plain.maker.broken[bundle] = "no wheel of torch fits: choose another --base-image"
    plain.update(version=2)

    assert plain.target.weights(plain.name) == {"r1": 100}
    assert "no wheel of torch" in revision(plain.show(), "r2")["failed_reason"]


def test_an_image_that_the_engine_lost_is_made_anew_while_what_runs_of_it_goes_on(
    plain: Host,
) -> None:
    plain.deploy(version=1)
    plain.update(version=2)
    plain.act("traffic", {"weights": {"r1": 50, "r2": 50}})
    before, shares = plain.maker.made.count("scale:2"), plain.target.weights(plain.name)
    assert shares == {"r1": 50, "r2": 50}
    plain.target.failing[plain.name, 2] = Reason("ImageMissing", "the engine has no such image")
    for _ in range(3):
        plain.reconciler.reconcile(plain.name)
        assert plain.target.weights(plain.name) == shares

    plain.builds.run_all()
    del plain.target.failing[plain.name, 2]
    applied = plain.target.calls.count("apply")
    plain.go_on(5)

    assert plain.maker.made.count("scale:2") == before + 1
    assert plain.target.calls.count("apply") == applied + 1, "it is told soon"
    assert plain.target.weights(plain.name) == shares
    assert plain.show()["condition"] == "ready"


def test_an_image_is_built_although_the_target_does_not_answer(plain: Host) -> None:
    plain.target.unreachable = "docker: no answer"
    bundle = plain.registry.get("/api/v1/models/scale/versions/3")["bundle"]
    plain.maker.broken[bundle] = "no wheel of torch fits"
    plain.deploy()
    plain.settle()
    plain.reconciler.blind(plain.name)

    assert plain.show()["rollout"]["phase"] == "failed"
    assert plain.show()["condition"] == "unknown"


def test_a_slow_build_holds_up_no_other_service(own: Host) -> None:
    own.deploy(version=1)
    controller = Controller(own.registry.services, own.registry.services.targets, own.maker)
    own.maker.held.clear()
    stopping = threading.Event()
    thread = threading.Thread(target=controller.run, args=(stopping,))
    thread.start()
    own.registry.http.patch(f"{own.path}", json={"version": 2})
    own.registry.http.post(f"{own.path}/keys", json={"name": "one"})

    def names() -> set[str]:
        return {key.name for key in own.target.there[own.name].config.keys}

    eventually(lambda: "one" in names(), "the key is known")
    assert "r2" not in own.target.weights(own.name)
    own.maker.held.set()
    eventually(lambda: own.target.weights(own.name).get("r2") == 100, "r2 has the traffic")
    stopping.set()
    controller.wake()
    thread.join()


def test_blue_green_is_switched_by_promote_and_back_by_rollback(plain: Host) -> None:
    plain.deploy(version=1)
    plain.update(version=2, strategy={"kind": "blue-green", "soak_s": 30})
    assert plain.show()["rollout"]["phase"] == "holding"
    assert plain.show()["settled"]
    plain.act("promote")
    assert plain.target.weights(plain.name) == {"r1": 0, "r2": 100}
    plain.act("rollback")
    plain.go_on(5)

    assert plain.target.weights(plain.name) == {"r1": 100}
    assert plain.show()["current"] == "r1"


def test_a_shadow_gets_copies_only(plain: Host) -> None:
    plain.deploy(version=1)
    plain.update(version=2, strategy={"kind": "shadow", "mirror_fraction": 0.5})
    config = plain.target.there[plain.name].config

    assert (config.mirror, config.mirror_fraction) == ("r2", 0.5)
    assert plain.target.weights(plain.name) == {"r1": 100, "r2": 0}
    plain.act("traffic", {"mirror": "none"})
    assert plain.target.there[plain.name].config.mirror is None


def test_traffic_is_shared_by_hand(plain: Host) -> None:
    plain.deploy(version=1)
    plain.update(version=2, strategy={"kind": "blue-green"})
    plain.act("traffic", {"weights": {"r1": 70, "r2": 30}})

    assert plain.target.weights(plain.name) == {"r1": 70, "r2": 30}
    assert "add up to 100" in problem(
        plain, 422, "POST", f"/{plain.name}/traffic", {"weights": {"r1": 70}}
    )
    assert "r9 of" in problem(
        plain, 404, "POST", f"/{plain.name}/traffic", {"weights": {"r9": 100}}
    )


def test_replicas_are_scaled(plain: Host) -> None:
    plain.deploy(version=1)
    plain.act("scale", {"scale": {"least": 4}})

    assert plain.target.wished(plain.name, 1).scale.least == 4
    assert revision(plain.show(), "r1")["ready"] == 4
    assert plain.kinds()[-1] == "scaled"


def test_keys_reach_the_gateway_and_are_shown_once(plain: Host) -> None:
    plain.deploy(version=1)
    made = plain.registry.post(
        f"{plain.path}/keys", {"name": "app", "limit": {"per_s": 5, "burst": 9}}, 201
    )
    plain.settle()
    keys = {key.name: key for key in plain.target.there[plain.name].config.keys}
    listed = plain.registry.get(f"{plain.path}/keys")["items"]

    assert keys.keys() == {"first", "app", "@registry"}
    assert keys["app"].limit is not None
    assert keys["app"].limit.per_s == 5
    assert [each["name"] for each in listed] == ["app", "first"]
    assert made["key"] not in str(listed)
    assert "revoke it first" in problem(plain, 409, "POST", f"/{plain.name}/keys", {"name": "app"})
    assert plain.registry.http.delete(f"{plain.path}/keys/app").status_code == 204
    plain.settle()
    left = [key.name for key in plain.target.there[plain.name].config.keys]
    assert left == ["first", "@registry"]
    assert "first" not in problem(plain, 404, "DELETE", f"/{plain.name}/keys/app")


def test_an_anonymous_service_has_no_key(plain: Host) -> None:
    assert plain.deploy(gateway={"anonymous": True})["key"] is None
    assert plain.target.there[plain.name].config.anonymous


def test_deletion_removes_all_and_frees_the_name(host: Host) -> None:
    host.deploy(version=1)
    answer = registries.checked(host.registry.http.delete(f"{SERVICES}/digits"), 200)
    assert answer["condition"] == "removing"
    body = {"name": "digits", "model": "scale", "target": DOCKER}
    assert "is being removed" in problem(host, 409, "POST", "", body)
    host.settle()

    assert host.target.there == {}
    assert host.registry.http.get(f"{SERVICES}/digits").status_code == 404
    assert host.kinds()[-2:] == ["deleted", "removed"]
    again = host.deploy(version=2)["service"]
    assert [each["name"] for each in again["revisions"]] == ["r2"]


def test_a_service_whose_target_is_gone_can_be_forgotten(plain: Host) -> None:
    plain.deploy()
    plain.target.unreachable = "docker: no answer"
    plain.registry.http.delete(f"{plain.path}")
    plain.settle()
    assert plain.show()["condition"] == "removing"
    assert plain.show()["trouble"] == "docker: no answer"
    plain.registry.http.delete(f"{plain.path}?forget=true")

    assert plain.registry.http.get(f"{plain.path}").status_code == 404


def delete_version(host: Host, number: int) -> Any:
    return host.registry.http.delete(f"/api/v1/models/scale/versions/{number}").json()


def test_a_version_that_a_service_runs_or_goes_back_to_is_not_deleted(host: Host) -> None:
    host.deploy(version=1)
    host.update(version=2, strategy={"soak_s": 0})
    host.go_on(1)
    host.update(version=3, strategy={"soak_s": 0})
    host.go_on(1)
    assert (host.show()["stable"], host.show()["previous"]) == ("r3", "r2")

    assert delete_version(host, 3)["users"] == ["service digits (r3)"]
    assert delete_version(host, 2)["users"] == ["service digits (r2)"]
    assert "users" not in delete_version(host, 1)
    assert "was deleted" in problem(host, 409, "POST", "/digits/rollback", {"to": "r1"})
    host.registry.http.delete(f"{SERVICES}/digits")
    assert "users" not in delete_version(host, 2)


def test_the_history_says_what_had_which_share_when(host: Host) -> None:
    began = host.registry.clock.at
    host.deploy(version=1)
    host.go_on(100)
    host.update(version=2, strategy=CANARY)
    host.target.serve("digits", 1000, failing={"r2": 50})
    host.go_on(10)
    path = "/api/v1/history/services"
    runs = host.registry.get(f"{path}?service=digits")["items"]

    assert [(each["revision"], each["weight"]) for each in runs] == [
        ("r1", 100), ("r2", 10), ("r1", 90), ("r1", 100),
    ]  # fmt: skip
    assert runs[0]["until_at"] is None
    assert runs[1]["until_at"] == runs[0]["from_at"]
    then = host.registry.get(f"{path}?at={began + 50}")["items"]
    assert [(each["model"], each["version"]) for each in then] == [("scale", 1)]
    host.registry.http.delete(f"{SERVICES}/digits")
    host.settle()
    assert host.registry.get(f"{path}?at={host.registry.clock.at}")["items"] == []


def test_the_database_refuses_to_rewrite_what_had_traffic(host: Host) -> None:
    host.deploy()

    def rewrite(statement: str) -> None:
        with (
            pytest.raises(DatabaseError, match="append-only"),
            host.registry.services.engine.begin() as connection,
        ):
            connection.execute(text(statement))

    rewrite("UPDATE service_run SET weight = 1")
    rewrite("DELETE FROM service_run")


def test_what_was_not_seen_lately_is_unknown(plain: Host) -> None:
    plain.deploy()
    assert plain.show()["condition"] == "ready"
    plain.registry.clock.at += 61

    assert plain.show()["condition"] == "unknown"
    assert revision(plain.show(), "r1")["condition"] == "unknown"


def test_an_unreachable_target_is_told_and_ends_no_run(plain: Host) -> None:
    plain.deploy()
    plain.target.unreachable = "docker: no answer"
    plain.go_on(10)
    runs = plain.registry.get(f"/api/v1/history/services?service={plain.name}")["items"]

    assert (plain.show()["condition"], plain.show()["trouble"]) == ("unknown", "docker: no answer")
    assert [each["until_at"] for each in runs] == [None]


def test_trouble_is_told_when_it_lasts_and_when_it_ends(plain: Host) -> None:
    plain.deploy()
    plain.target.failing[plain.name, 1] = crashed()
    plain.settle()
    assert plain.kinds()[-1] == "promoted"
    plain.go_on(10)
    assert plain.kinds()[-1] == "degraded"
    assert "CrashLoopBackOff" in plain.events("degraded")[0]["reason"]
    plain.go_on(10)
    plain.target.failing.clear()
    plain.go_on(10)

    assert plain.kinds()[-2:] == ["degraded", "ready"]


def test_drift_is_put_back(plain: Host) -> None:
    plain.deploy()
    plain.target.drifted.add((plain.name, 1))
    plain.settle()

    assert plain.target.drifted == set()


def test_a_target_that_refuses_is_told_and_the_old_revision_goes_on(plain: Host) -> None:
    plain.deploy(version=1)
    plain.target.refusing = "quota: 4 of 4 CPUs are used: ask for less"
    plain.update(version=2, strategy={"progress_s": 60})
    assert "quota" in plain.show()["trouble"]
    plain.go_on(61)
    plain.target.refusing = ""
    plain.go_on(20)

    assert plain.target.weights(plain.name) == {"r1": 100}
    assert "quota" in revision(plain.show(), "r2")["failed_reason"]


def test_all_is_put_back_after_the_engine_lost_it(plain: Host) -> None:
    plain.deploy()
    plain.target.there.clear()
    plain.go_on(70)

    assert plain.target.weights(plain.name) == {"r1": 100}
    assert plain.show()["condition"] == "ready"


def test_services_of_others_are_told_and_left_alone(own: Host) -> None:
    own.deploy()
    other = MemoryTarget()
    other.there = dict(own.target.there)
    own.target.there["stranger"] = own.target.there[own.name]
    controller = Controller(own.registry.services, own.registry.services.targets, own.maker)
    stopping = threading.Event()
    thread = threading.Thread(target=controller.run, args=(stopping,))
    thread.start()
    eventually(lambda: bool(own.registry.get("/api/v1/places")["items"]), "places are known")
    stopping.set()
    controller.wake()
    thread.join()

    assert own.registry.get("/api/v1/places")["items"][0]["strays"] == ["stranger"]
    assert "stranger" in own.target.there


def test_lines_of_replicas_are_shown(plain: Host) -> None:
    plain.deploy()
    plain.target.lines = [line("r1-0", "one"), line("r2-0", "two"), line("r1-0", "three")]
    shown = plain.registry.get(f"{plain.path}/logs?revision=r1&tail=1")["items"]

    assert [each["text"] for each in shown] == ["three"]
    plain.target.unreachable = "docker: no answer"
    assert "no answer" in problem(plain, 503, "GET", f"/{plain.name}/logs")


def test_events_of_one_service_are_listed(plain: Host) -> None:
    plain.deploy()
    found = plain.registry.get(f"{plain.path}/events")["items"]

    assert [each["kind"] for each in found] == [
        "service.created", "service.key_added", "service.ready", "service.promoted",
    ]  # fmt: skip


def test_services_are_listed_in_pages(own: Host) -> None:
    for name in ("a", "b", "c"):
        own.deploy(name)
    first = own.registry.get(f"{SERVICES}?limit=2")
    rest = own.registry.get(f"{SERVICES}?limit=2&cursor={first['next']}")

    assert [each["name"] for each in first["items"] + rest["items"]] == ["a", "b", "c"]


def test_a_commit_wakes_the_controller(plain: Host) -> None:
    told = threading.Event()
    plain.registry.services.notifier.subscribe(Change.SERVICES, told.set)
    plain.registry.post(SERVICES, {"name": plain.name, "model": "scale", "target": DOCKER}, 201)

    assert told.is_set()


def test_the_controller_does_it_all_by_itself(tmp_path: Path) -> None:
    """With a real clock and its threads: from the request to the traffic, by events alone."""
    with hosting.hosting(tmp_path) as host:
        vars(host.registry.services)["clock"] = SystemClock()
        services = host.registry.services
        controller = Controller(services, services.targets, host.maker)
        stopping = threading.Event()
        thread = threading.Thread(target=controller.run, args=(stopping,))
        thread.start()
        body = {"name": "digits", "model": "scale", "version": 1, "target": DOCKER}
        host.registry.post(SERVICES, body, 201)
        eventually(lambda: host.show()["settled"], "r1 serves")
        changes = {"version": 2, "strategy": {"soak_s": 0}}
        host.registry.http.patch(f"{SERVICES}/digits", json=changes)
        eventually(lambda: host.show()["stable"] == "r2", "r2 serves")
        host.registry.http.delete(f"{SERVICES}/digits")
        eventually(lambda: not host.target.there, "nothing is left")
        stopping.set()
        controller.wake()
        thread.join()


def test_what_is_absent_is_no_service() -> None:
    assert MemoryTarget().observe("nothing").condition is Condition.ABSENT
