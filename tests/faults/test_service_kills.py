"""The controller of services killed at any point: whoever goes on comes to the same end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import event

from tests.support import hosting
from tests.support.hosting import Host

CANARY = {
    "kind": "canary", "steps": [10, 100], "step_s": 20, "soak_s": 10,
    "gates": {"min_requests": 50},
}  # fmt: skip
MOST = 200


class KilledError(BaseException):
    """The process is gone; nobody handles it."""


class Killer:
    """Kills at the n-th point: before and after effects at the target, and round commits."""

    def __init__(self, at: int) -> None:
        self.at, self.count, self.armed = at, 0, True

    def pass_by(self, _point: object = None) -> None:
        """Be killed here if it is time."""
        self.count += 1
        if self.armed and self.count == self.at:
            self.armed = False
            raise KilledError


@contextmanager
def killing(host: Host, at: int) -> Iterator[Killer]:
    """Have whoever works be killed at a point."""
    killer = Killer(at)
    host.target.watch = killer.pass_by
    engine = host.registry.services.engine
    event.listen(engine, "commit", killer.pass_by)
    try:
        yield killer
    finally:
        event.remove(engine, "commit", killer.pass_by)
        host.target.watch = lambda _point: None


def until_the_end(host: Host, killer: Killer, work: Callable[[], None]) -> None:
    """Do the work; killed, begin anew with nothing in memory and go on."""
    try:
        work()
    except KilledError:
        host.restart()
        work()
    assert killer.count < MOST


def canary(host: Host, *, failing: int) -> None:
    """Let a canary take its way."""
    for _ in range(4):
        host.target.serve(host.name, 1000, failing={"r2": failing})
        host.go_on(21)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosting.hosting(tmp_path_factory.mktemp("hosting")) as made:
        yield made


@pytest.fixture
def host(shared: Host) -> Iterator[Host]:
    with hosting.alone(shared) as made:
        made.deploy(version=1)
        yield made


@pytest.mark.parametrize("at", [*range(1, 40, 3)])
def test_a_good_canary_ends_the_same_wherever_it_is_killed(host: Host, at: int) -> None:
    host.registry.http.patch(host.path, json={"version": 2, "strategy": CANARY})
    with killing(host, at) as killer:
        until_the_end(host, killer, lambda: canary(host, failing=0))
    host.go_on(30)

    assert not killer.armed
    assert host.target.weights(host.name) == {"r2": 100}
    assert sorted(host.target.there[host.name].revisions) == [2]
    assert (host.state().stables, host.state().rollout) == ((1, 2), None)
    assert host.kinds().count("promoted") == 2  # r1, then r2: each once
    shares = host.registry.get(f"/api/v1/history/services?service={host.name}")["items"]
    assert [each["weight"] for each in shares if each["until_at"] is None] == [100]


@pytest.mark.parametrize("at", [*range(2, 36, 4)])
def test_a_bad_canary_ends_on_the_old_revision_wherever_it_is_killed(host: Host, at: int) -> None:
    host.registry.http.patch(host.path, json={"version": 2, "strategy": CANARY})
    with killing(host, at) as killer:
        until_the_end(host, killer, lambda: canary(host, failing=50))
    host.go_on(30)

    assert not killer.armed
    assert host.target.weights(host.name) == {"r1": 100}
    assert (host.state().stables, host.state().rollout) == ((1,), None)
    assert host.kinds().count("rolled_back") == 1


@pytest.mark.parametrize("at", range(1, 8))
def test_a_removal_ends_the_same_wherever_it_is_killed(host: Host, at: int) -> None:
    host.registry.http.delete(host.path)
    with killing(host, at) as killer:
        until_the_end(host, killer, host.settle)
    host.settle()

    assert host.target.there == {}
    assert host.registry.http.get(host.path).status_code == 404
    assert host.kinds()[-2:] == ["deleted", "removed"]


def test_whoever_changes_a_service_meanwhile_is_not_overwritten(host: Host) -> None:
    """An operator's word between a pass's look and its save wins: the pass is done anew."""
    host.registry.http.patch(host.path, json={"version": 2, "strategy": {"kind": "blue-green"}})
    spoken: list[str] = []

    def speak(point: str) -> None:
        with_r2 = 2 in host.target.there[host.name].revisions
        if point == "before statuses" and with_r2 and not spoken:
            spoken.append(point)
            host.registry.http.post(f"{host.path}/rollback")

    host.target.watch = speak
    host.settle()
    host.target.watch = lambda _point: None
    host.go_on(10)

    assert spoken
    assert host.target.weights(host.name) == {"r1": 100}
    assert host.state().rollout is None
