"""Services from the API to the objects of a pretended cluster, and its pods' troubles back."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from runtime.gateway.config import LATENCY_BOUNDS_MS
from tests.support import command_line, hosting, targets
from tests.support.command_line import Run
from tests.support.hosting import Host
from tests.support.targets import KubernetesWorld

KUBERNETES = {"kind": "kubernetes"}
CANARY = {
    "kind": "canary", "steps": [10, 100], "step_s": 20, "soak_s": 30,
    "gates": {"min_requests": 50},
}  # fmt: skip
_NUMBERS = itertools.count(1)


@dataclass
class Site:
    """A registry, and the cluster on which its services run."""

    host: Host
    world: KubernetesWorld

    def deploy(self, **wish: Any) -> None:
        """Make the service, and have its pods run."""
        self.host.deploy(target=KUBERNETES, **wish)
        self.run()

    def run(self) -> None:
        """Have scheduler and kubelet do all that they can, and the registry see it."""
        for _ in range(3):
            self.world.settle(self.host.name)
            self.host.settle()

    def go_on(self, seconds: float) -> None:
        """Let time pass, with the pods running as they should."""
        self.host.go_on(seconds)
        self.run()

    def count(self, **requests: tuple[int, int]) -> None:
        """Have the gateway tell of requests and errors, by revision."""
        rest = [0] * (len(LATENCY_BOUNDS_MS) - 3)
        told = [
            {"name": name, "requests": n, "errors": bad, "latency_ms": [0, 0, 0, n, *rest]}
            for name, (n, bad) in requests.items()
        ]
        self.tell(revisions=told)

    def tell(self, **more: Any) -> None:
        """Have the gateway have the newest configuration in force."""
        self.world.tell(self.host.name, f"{self.of('gateway')}-5d4f-0", **more)

    def of(self, part: str) -> str:
        """Return the name of a part of the service: its gateway, a revision."""
        return f"{self.host.name}-{part}"

    def names(self, plural: str) -> list[str]:
        """Return the names of all objects of a kind."""
        return self.world.kube.names(plural)

    def revision(self, name: str) -> Any:
        """Return what the API says of a revision."""
        found = self.host.show()["revisions"]
        return next(each for each in found if each["name"] == name)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosting.hosting(tmp_path_factory.mktemp("hosting")) as host:
        yield host


@pytest.fixture
def site(shared: Host, tmp_path: Path) -> Iterator[Site]:
    """A cluster of its own, and a service name that had no revision before."""
    host = replace(shared, name=f"digits-{next(_NUMBERS)}")
    with targets.kubernetes(tmp_path) as world:
        hosting.put_target(host.registry, world.target)
        host.restart()
        yield Site(host, world)


def test_a_service_lives_and_goes_as_objects_of_the_cluster(site: Site) -> None:
    site.host.deploy(target=KUBERNETES, version=1)
    assert site.host.show()["condition"] == "starting"
    site.run()

    shown = site.host.show()
    assert (shown["condition"], shown["settled"]) == ("ready", True)
    assert shown["traffic"] == {"r1": 100}
    assert any(site.host.name in endpoint for endpoint in shown["endpoints"])
    assert site.names("deployments") == [site.of("gateway"), site.of("r1")]

    assert site.host.registry.http.delete(site.host.path).status_code == 200
    site.host.settle()
    site.run()
    assert site.host.registry.http.get(site.host.path).status_code == 404
    assert site.world.ours() == {}


def test_a_canary_takes_over_and_what_it_replaced_is_removed_after_the_soak(site: Site) -> None:
    site.deploy(version=1)
    site.host.update(version=2, strategy=CANARY)
    site.run()
    assert site.host.show()["traffic"] == {"r1": 90, "r2": 10}
    site.count(r1=(900, 0), r2=(100, 0))
    site.host.go_on(21)
    assert site.host.show()["traffic"] == {"r2": 100}
    site.run()
    assert site.of("r1") in site.names("deployments")  # warm for the soak
    site.go_on(31)
    site.go_on(5)

    shown = site.host.show()
    assert (shown["stable"], shown["condition"]) == ("r2", "ready")
    assert site.names("deployments") == [site.of("gateway"), site.of("r2")]
    assert site.host.kinds()[-1] == "promoted"


def test_a_canary_that_fails_requests_goes_by_itself(site: Site) -> None:
    site.deploy(version=1)
    site.host.update(version=2, strategy=CANARY)
    site.run()

    site.count(r1=(900, 0), r2=(100, 50))
    site.host.settle()
    site.run()

    assert site.host.show()["traffic"] == {"r1": 100}
    assert site.names("deployments") == [site.of("gateway"), site.of("r1")]
    assert "50 of 100 requests failed" in site.revision("r2")["failed_reason"]


def test_one_that_never_gets_ready_is_rolled_back_when_its_time_is_over(site: Site) -> None:
    site.deploy(version=1)
    site.host.update(version=2, strategy={"progress_s": 60})
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                   "message": "0/3 nodes are available: 3 Insufficient memory."}  # fmt: skip
    site.world.kube.pods.be(site.of("r2"), scheduled=unscheduled)
    site.tell()
    site.host.settle()
    assert site.host.show()["traffic"] == {"r1": 100}

    site.host.go_on(61)
    site.tell()
    site.host.go_on(5)

    (told,) = site.host.events("rolled_back")
    assert "Unschedulable: 0/3 nodes are available: 3 Insufficient memory." in told["reason"]
    assert site.host.show()["condition"] == "ready"
    assert site.of("r2") not in site.names("services")


def test_people_roll_back_and_shift_traffic(site: Site) -> None:
    site.deploy(version=1)
    site.host.update(version=2)
    site.run()
    site.host.act("traffic", {"weights": {"r1": 30, "r2": 70}})
    site.run()
    assert site.host.show()["traffic"] == {"r1": 30, "r2": 70}
    site.host.act("rollback", {"to": "r1"})
    site.run()

    assert site.host.show()["traffic"] == {"r1": 100}


@pytest.mark.parametrize("what", ["changed", "deleted"])
def test_what_somebody_does_to_a_gateway_is_mended_at_once(site: Site, what: str) -> None:
    site.deploy()
    store = site.world.kube.store
    {
        "changed": lambda: store.edit("deployments", site.of("gateway"), scale_to_zero),
        "deleted": lambda: store.delete("deployments", site.of("gateway")),
    }[what]()

    site.host.settle()

    assert site.world.kube.get("deployments", site.of("gateway"))["spec"]["replicas"] == 1


def scale_to_zero(deployment: dict[str, Any]) -> None:
    deployment["spec"]["replicas"] = 0


PULL = {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}
CRASH = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}
NO_NODE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
           "message": "0/3 nodes are available: 3 Insufficient cpu."}  # fmt: skip


@pytest.fixture
def run(
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Run]:
    with command_line.logged_in(site.host.registry, tmp_path, monkeypatch, capsys) as made:
        yield made


@pytest.mark.parametrize(
    ("pod", "said"),
    [
        ({"state": PULL}, "ImagePullBackOff: Back-off pulling image: check that the image is"),
        (
            {"state": CRASH, "lastState": {"terminated": {"exitCode": 1}}, "restartCount": 4},
            "CrashLoopBackOff: it ended with exit code 1, 4 restarts",
        ),
        ({"scheduled": NO_NODE}, "Unschedulable: 0/3 nodes are available: 3 Insufficient cpu."),
    ],
)
def test_services_show_says_why_a_pod_does_not_answer(
    site: Site, run: Run, pod: dict[str, Any], said: str
) -> None:
    site.host.deploy(target=KUBERNETES)
    name = site.world.kube.pods.be(site.of("r1"), **pod)
    site.world.kube.pods.previous[name] = ["loading digits", "MemoryError: no room"]
    site.host.settle()

    ran = run("services", "show", site.host.name)

    assert said in " ".join(ran.out.split()), ran.out
    assert ("MemoryError: no room" in ran.err) == ("restartCount" in pod)


def test_a_quota_is_told_in_the_clusters_words(site: Site) -> None:
    site.host.deploy(target=KUBERNETES)
    text = 'pods "x" is forbidden: exceeded quota: team, requested: cpu=4'
    site.world.kube.pods.condition(site.of("r1"), "ReplicaFailure", "True", "FailedCreate", text)
    site.host.settle()

    (reason,) = site.revision("r1")["reasons"]
    assert reason["code"] == "FailedCreate"
    assert "exceeded quota: team" in reason["text"]
    assert reason["text"].endswith("ask for less, or have the quota raised")


def test_a_right_that_is_missing_is_shown_as_the_trouble(site: Site) -> None:
    site.deploy()
    site.world.kube.granted.discard(("list", "", "pods"))
    site.host.settle()

    trouble = site.host.show()["trouble"]
    assert "does not allow Packhorse to list pods in namespace models" in trouble
    assert "deploy/kubernetes/" in trouble
