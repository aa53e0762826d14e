"""Rollouts in the database: the engine, operators, conflicts, and kills at every statement."""

import contextlib
import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlmodel import Session, select

from cloud import tables
from cloud.registry import desired, hearing
from cloud.registry.hearing import Word
from cloud.rollouts import lease
from cloud.rollouts.engine import Engine
from runtime import messages
from runtime.messages import (
    ModuleReport,
    ModuleSpec,
    Phase,
    Presence,
    Reported,
    RunningVersion,
)
from runtime.topics import DeviceId
from tests.support import registries
from tests.support.registries import Registry, Stores

PLACES = itertools.count()
FLEET = tuple(f"dev-{number}" for number in range(5))


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores) as running:
        yield running


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """One registry on SQLite for all tests where the kind of store makes no difference."""
    with registries.running(tmp_path_factory.mktemp("registry")) as running:
        yield running


class Fleet:
    """Devices at a place of their own that do as they are told, and an engine."""

    def __init__(self, registry: Registry, *names: str) -> None:
        self.registry, self.services = registry, registry.services
        self.engine = Engine(self.services, owner="one")
        self.place = f"p{next(PLACES)}"
        self.refused: set[str] = set()
        self.away: set[str] = set()
        self.promoted: set[str] = set()
        """Who has made the candidate its version by itself."""
        self.names: list[str] = []
        for name in names:
            self.add(name)
        registry.register("m", b"1")
        registry.register("m", b"2")

    def add(self, name: str, **labels: str) -> None:
        self.registry.enrol(self.id(name), labels={"site": self.place, **labels})
        self.names.append(name)
        self.report(name)

    def id(self, name: str) -> DeviceId:
        return DeviceId(f"{self.place}-{name}")

    def wanted(self, name: str) -> tuple[ModuleSpec, ...]:
        with self.services.reading() as session:
            found = desired.read(session, self.id(name))
        assert found is not None
        return found.modules

    def versions(self) -> list[int]:
        """Return which version of m each device shall run; 0: none."""
        return [next((spec.version for spec in self.wanted(name)), 0) for name in self.names]

    def generations(self) -> dict[str, int]:
        """Return how often what each device shall run was changed."""
        with self.services.reading() as session:
            rows = session.exec(select(tables.Desired)).all()
        return {row.device.removeprefix(f"{self.place}-"): row.generation for row in rows}

    def report(self, name: str) -> None:
        """Have a device say that it does what it shall, or refuses."""
        now = self.registry.clock.at
        with self.services.transaction() as session:
            want = desired.read(session, self.id(name))
            assert want is not None
            modules = tuple(self._said(name, spec) for spec in want.modules)
            told = Reported(self.id(name), want.generation, now, modules)
            hearing.take_over(session, [Word(self.id(name), told, now)])
            online = Presence(online=True, at=now, lease_s=60)
            hearing.take_over(session, [Word(self.id(name), online, now)])

    def _said(self, name: str, spec: ModuleSpec) -> ModuleReport:
        bad = f"{name}:{spec.version}" in self.refused
        if name in self.promoted and spec.candidate is not None:
            made = {"bundle": spec.candidate.bundle, "version": spec.candidate.version}
            spec = msgspec.structs.replace(spec, **made)
        return ModuleReport(
            name=spec.name,
            phase=Phase.FAILED if bad else Phase.RUNNING,
            bundle=spec.bundle,
            model=spec.model,
            version=spec.version,
            deployment=spec.deployment,
            since=1.0,
            attempt=spec.attempt,
            reason="the check failed: 3 of 10 outputs differ" if bad else "",
            running=RunningVersion(spec.bundle, spec.model, 1 if bad else spec.version),
        )

    def turn(self, count: int = 1, seconds: float = 3.0) -> None:
        """Let time go on, devices report, and the engine look."""
        for _ in range(count):
            self.registry.clock.at += seconds
            for name in self.names:
                if name not in self.away:
                    self.report(name)
            self.engine.look()

    def document(self, model: str = "m:1", name: str = "", **fields: Any) -> dict[str, Any]:
        wish = {"name": f"{name or 'vision'}-{self.place}", "target": f"site={self.place}"}
        return {**wish, "modules": {"m": {"model": model}}, **fields}

    def deploy(self, **fields: Any) -> str:
        made = self.registry.post("/api/v1/rollouts", self.document(**fields), 201)
        rollout: str = made["id"]
        return rollout

    def show(self, rollout: str) -> Any:
        return self.registry.get(f"/api/v1/rollouts/{rollout}")

    def state(self, rollout: str) -> str:
        found: str = self.show(rollout)["rollout"]["state"]
        return found

    def standings(self, rollout: str) -> dict[str, str]:
        return {
            each["device"].removeprefix(f"{self.place}-"): each["standing"]
            for each in self.show(rollout)["devices"]
        }

    def order(self, rollout: str, order: str, status: int = 200) -> Any:
        path = f"/api/v1/rollouts/{rollout}/orders"
        return self.registry.post(path, {"order": order}, status)


def waves(*sizes: int, **fields: Any) -> dict[str, Any]:
    return {"waves": [{"count": size} for size in sizes], **fields}


def test_a_rollout_goes_wave_by_wave_and_the_rest_keeps_what_it_has(plain: Registry) -> None:
    fleet = Fleet(plain, *FLEET)
    rollout = fleet.deploy(strategy=waves(1, 2))
    assert fleet.versions() == [0] * 5

    seen = []
    for _ in range(4):
        fleet.engine.look()
        seen.append(sum(fleet.versions()))
        fleet.turn()

    assert seen == [1, 3, 5, 5]
    assert fleet.state(rollout) == "complete"
    assert set(fleet.standings(rollout).values()) == {"updated"}


def test_a_rollout_that_cannot_go_on_says_why_and_since_when_and_holds_up_no_other(
    plain: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck, fine = Fleet(plain, "dev-0"), Fleet(plain, "dev-0")
    modules = {"m": {"model": "m:1", "sources": [f"directory:{'x' * 500}"]}}
    first = stuck.deploy(modules=modules)
    second = fine.deploy()
    with monkeypatch.context() as patched:
        patched.setattr(messages, "MAX_MESSAGE_BYTES", 700)  # the first would be told more
        began = plain.clock.at + 3
        fine.turn(3)
        told = plain.get(f"/api/v1/devices/{stuck.id('dev-0')}/explanation")

    shown = stuck.show(first)
    (trouble,) = shown["rollout"]["troubles"]
    assert (stuck.state(first), stuck.versions()) == ("running", [0])
    assert (fine.state(second), fine.versions()) == ("complete", [1])
    assert (trouble["what"], trouble["since"]) == ("step", began)
    assert "a device takes at most 700: cancel old deployments" in trouble["reason"]
    assert "it cannot go on, for 6 s" in shown["blocked"][0]
    assert "it cannot go on, for 6 s" in told["modules"][0]["claims"][0]["reason"]

    fine.turn(10)
    kinds = [each["kind"] for each in plain.get(f"/api/v1/events?subject={first}")["items"]]
    assert (stuck.show(first)["rollout"]["troubles"], stuck.versions()) == ([], [1])
    assert (kinds.count("rollout.blocked"), kinds.count("rollout.unblocked")) == (1, 1)


def test_an_alias_that_cannot_be_followed_is_told_until_it_can(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0")
    plain.register("gone", b"1")
    plain.register("gone", b"2")
    for model in ("m", "gone"):
        plain.http.put(f"/api/v1/models/{model}/aliases/top", json={"version": 1})
    modules = {"m": {"model": "m@top", "follow": True}, "n": {"model": "gone@top"}}
    rollout = fleet.deploy(modules=modules)
    fleet.turn(3)
    plain.http.put("/api/v1/models/gone/aliases/top", json={"version": 2})
    plain.http.delete("/api/v1/models/gone/aliases/top")
    plain.http.put("/api/v1/models/m/aliases/top", json={"version": 2})
    fleet.turn(2)

    (trouble,) = fleet.show(rollout)["rollout"]["troubles"]
    told = plain.get(f"/api/v1/devices/{fleet.id('dev-0')}/explanation")["modules"][0]
    assert trouble["what"] == "follow"
    assert trouble["reason"].startswith("m@top: alias")
    assert "a moved alias cannot be followed" in told["claims"][0]["reason"]
    plain.http.put("/api/v1/models/gone/aliases/top", json={"version": 1})
    fleet.turn(3)
    assert fleet.state(rollout) == "superseded"
    assert fleet.show(rollout)["rollout"]["troubles"] == []
    assert fleet.wanted("dev-0")[0].version == 2


def test_a_failing_canary_stops_it_and_every_device_is_on_the_old_version(
    plain: Registry,
) -> None:
    fleet = Fleet(plain, *FLEET)
    fleet.deploy()
    fleet.turn(3)
    fleet.refused = {f"{name}:2" for name in FLEET}
    rollout = fleet.deploy(model="m:2", strategy=waves(2))
    fleet.turn(4)

    shown = fleet.show(rollout)
    assert fleet.versions() == [1] * 5
    assert shown["rollout"]["state"] == "reverted"
    assert "0 of 2 run it" in shown["rollout"]["reason"]
    assert sorted(fleet.standings(rollout).values()) == ["not_reached"] * 3 + ["reverted"] * 2
    reasons = [each["reason"] for each in shown["devices"] if each["standing"] == "reverted"]
    assert all("the check failed" in reason for reason in reasons)
    told = plain.get(f"/api/v1/events?limit=200&subject={rollout}")["items"]
    kinds = [each["kind"] for each in told]
    assert kinds.count("rollout.device_ended") == 5 + 2
    assert kinds.count("rollout.revert_started") == kinds.count("rollout.reverted") == 1
    assert kinds.count("rollout.wave_started") == 1

    for name, standing in fleet.standings(rollout).items():
        (module,) = plain.get(f"/api/v1/devices/{fleet.id(name)}/explanation")["modules"]
        decides, past = module["claims"]
        assert (decides["version"], decides["standing"]) == (1, "decides")
        assert (past["version"], past["standing"], past["rollout"]) == (2, standing, rollout)
        assert past["reason"]
    fleet.refused = set()
    fleet.deploy(model="m:2")
    fleet.turn(4)
    (module,) = plain.get(f"/api/v1/devices/{fleet.id(FLEET[0])}/explanation")["modules"]
    assert {claim["standing"] for claim in module["claims"]} == {"outdone", "decides"}


def test_devices_that_join_later_pass_the_same_gates(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0", "dev-1")
    rollout = fleet.deploy(strategy=waves(1))
    fleet.add("dev-2")
    fleet.engine.look()
    assert sum(fleet.versions()) == 1
    fleet.turn(4)
    fleet.add("dev-3")
    fleet.turn(2)

    assert fleet.versions() == [1] * 4
    assert fleet.standings(rollout)["dev-3"] == "updated"


def test_an_approval_says_who_and_when(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0")
    strategy = {"waves": [{"count": 1, "approve": True}]}
    rollout = fleet.deploy(strategy=strategy)
    fleet.turn(2)
    assert fleet.versions() == [0]
    assert "waits for approval" in fleet.show(rollout)["blocked"][0]

    fleet.order(rollout, "approve")
    fleet.order(rollout, "approve", 409)
    fleet.turn(3)

    assert fleet.versions() == [1]
    (told,) = fleet.show(rollout)["rollout"]["approvals"]
    assert (told["kind"], told["by"], told["wave"]) == ("approve", "key:admin", 0)


def test_operators_pause_promote_cancel_and_revert(plain: Registry) -> None:
    fleet = Fleet(plain, *FLEET)
    rollout = fleet.deploy(strategy=waves(1, 1, soak_s=9999))
    fleet.turn(2)
    fleet.order(rollout, "pause")
    fleet.order(rollout, "promote", 409)
    fleet.turn(2)
    assert sum(fleet.versions()) == 1
    fleet.order(rollout, "resume")
    fleet.order(rollout, "promote")
    fleet.turn(2)
    assert sum(fleet.versions()) == 2
    fleet.order(rollout, "cancel")
    fleet.turn(2)
    assert (sum(fleet.versions()), fleet.state(rollout)) == (2, "cancelled")
    fleet.order(rollout, "revert")
    fleet.turn(3)

    assert (sum(fleet.versions()), fleet.state(rollout)) == (0, "reverted")


def test_a_newer_document_of_the_same_name_takes_over(plain: Registry) -> None:
    fleet = Fleet(plain, *FLEET)
    first = fleet.deploy(strategy=waves(1, soak_s=9999))
    fleet.turn(2)
    second = fleet.deploy(model="m:2")
    fleet.turn(3)

    assert fleet.versions() == [2] * 5
    assert (fleet.state(first), fleet.state(second)) == ("superseded", "complete")
    assert sorted(fleet.standings(first).values()) == ["not_reached"] * 4 + ["updated"]


def test_what_a_reverted_rollout_had_superseded_goes_on_for_joiners(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0", "dev-1")
    first = fleet.deploy()
    fleet.turn(3)
    second = fleet.deploy(model="m:2")
    fleet.turn(3)
    assert fleet.state(first) == "superseded"
    fleet.order(second, "revert")
    fleet.turn(3)
    fleet.add("dev-2")
    fleet.turn(3)

    assert fleet.versions() == [1] * 3
    assert fleet.state(first) == "complete"


def test_a_conflict_is_reported_and_the_device_keeps_what_it_has(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0")
    fleet.deploy()
    fleet.turn(3)
    rival = fleet.deploy(model="m:2", name="other")
    fleet.turn(3)

    assert fleet.versions() == [1]
    assert "conflict" in fleet.show(rival)["blocked"][0]
    urgent = fleet.deploy(model="m:2", name="other", priority=5)
    fleet.turn(3)
    assert fleet.versions() == [2]
    assert fleet.state(urgent) == "complete"


def test_a_plain_deployment_in_conflict_says_so(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0")
    fleet.deploy()
    fleet.turn(3)
    made = plain.post("/api/v1/deployments", {"model": "m", "selector": f"site={fleet.place}"}, 201)

    (state,) = plain.get(f"/api/v1/deployments/{made['id']}")["devices"]
    assert fleet.versions() == [1]
    assert (state["stage"], state["healthy"]) == ("conflict", False)
    assert "cancel one, or give one a priority" in state["reason"]


def test_a_deployment_of_a_rollout_says_whose_turn_has_not_come(plain: Registry) -> None:
    fleet = Fleet(plain, *FLEET)
    rollout = fleet.deploy(strategy=waves(2))
    fleet.turn()
    (module,) = fleet.show(rollout)["rollout"]["modules"]

    shown = plain.get(f"/api/v1/deployments/{module['deployment']}")
    assert plain.http.post(f"/api/v1/deployments/{module['deployment']}/cancel").status_code == 409
    reasons = [each["reason"] for each in shown["devices"] if each["stage"] == "waiting"]
    assert len([each for each in reasons if rollout in each]) == 3
    assert not shown["overview"]["complete"]


def test_a_moved_alias_is_followed_only_if_the_document_asks(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0")
    for alias in ("champion", "steady"):
        plain.http.put(f"/api/v1/models/m/aliases/{alias}", json={"version": 1})
    modules = {"m": {"model": "m@champion", "follow": True}, "n": {"model": "m@steady"}}
    fleet.deploy(modules=modules)
    fleet.turn(3)
    for alias in ("champion", "steady"):
        plain.http.put(f"/api/v1/models/m/aliases/{alias}", json={"version": 2})
        fleet.turn(3)

    newest = plain.get("/api/v1/rollouts")["items"][:2]
    assert [each["origin"] for each in newest] == ["m@champion", ""]
    assert fleet.versions() == [2]


def test_going_back_rolls_out_the_versions_of_then(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0")
    first = fleet.deploy()
    fleet.turn(3)
    fleet.deploy(model="m:2")
    fleet.turn(3)
    (module,) = fleet.show(first)["rollout"]["modules"]

    made = plain.post("/api/v1/rollouts/rollback", {"to": module["deployment"]}, 201)
    fleet.turn(3)

    assert (made["origin"], fleet.versions()) == (first, [1])
    quick = plain.post("/api/v1/deployments", {"model": "m", "selector": "device=x"}, 201)["id"]
    assert plain.http.post("/api/v1/rollouts/rollback", json={"to": quick}).status_code == 409


def test_nothing_is_written_while_nothing_changes(tmp_path: Path) -> None:
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_rest: Any) -> None:
        statements.append(statement)

    with registries.running(tmp_path) as running:
        fleet = Fleet(running, "dev-0")
        fleet.deploy()
        fleet.turn(3)
        fleet.engine.look()
        sa.event.listen(running.services.engine, "before_cursor_execute", note)
        fleet.engine.look()
        sa.event.remove(running.services.engine, "before_cursor_execute", note)

    assert [each for each in statements if each != "BEGIN"] == statements[-1:]


class _KilledError(Exception):
    """As if the process had been killed just there."""


def test_a_step_killed_at_any_statement_is_done_once(registry: Registry) -> None:
    """Killed before each query, round each flush, before the commit; the next start goes on."""
    fleet = Fleet(registry, "dev-0", "dev-1", "dev-2")
    fleet.deploy()
    fleet.turn(3)
    fleet.refused = {f"{name}:2" for name in fleet.names}
    rollout = fleet.deploy(model="m:2", strategy=waves(2))
    kills = 0
    for _ in range(5):
        point = 0
        while killed_at(point, Engine(registry.services, owner="one").look):
            point, kills = point + 1, kills + 1
        fleet.turn()
    told = registry.get(f"/api/v1/events?limit=200&subject={rollout}")["items"]

    ended = [each["data"]["device"] for each in told if each["kind"] == "rollout.device_ended"]
    kinds = [each["kind"] for each in told]
    failed = [each for each in told if each["data"].get("outcome") == "failed"]
    assert kills > 50
    assert fleet.versions() == [1, 1, 1]
    assert kinds.count("rollout.revert_started") == kinds.count("rollout.reverted") == 1
    assert len(failed) == 2
    assert len(ended) == 2 + 3
    changed = {each["data"]["device"].removeprefix(f"{fleet.place}-") for each in failed}
    assert fleet.generations() == {name: 4 if name in changed else 2 for name in fleet.names}


KILLS = 20


def test_an_engine_killed_at_random_moments_does_everything_once(tmp_path: Path) -> None:
    """SIGKILL of real processes; a rollout whose second wave fails, and is reverted."""
    chance = random.Random(3)
    with registries.running(tmp_path) as running, engine_process(tmp_path) as engine:
        running.clock.at = time.time()
        fleet = Fleet(running, *FLEET)
        fleet.refused = {f"{name}:2" for name in FLEET[1:]}
        rollout = fleet.deploy(model="m:2", strategy=waves(1, gate=0.0, abort={"least": 2}))
        killed = 0
        while killed < KILLS or fleet.state(rollout) != "reverted":
            number = engine.begin()
            threading.Event().wait(chance.uniform(0.0, 0.02) * (1 + killed))
            os.kill(number, signal.SIGKILL)
            engine.await_end()
            killed += 1
            assert killed < 20 * KILLS, fleet.show(rollout)
            running.clock.at = time.time()
            for name in FLEET:
                fleet.report(name)
        told = running.get(f"/api/v1/events?limit=200&subject={rollout}")["items"]

    kinds = Counter(each["kind"] for each in told)
    outcomes = Counter((e["data"].get("device"), e["data"].get("outcome")) for e in told)
    changed = {device for device, outcome in outcomes if outcome in {"updated", "failed"}}
    assert (kinds["rollout.revert_started"], kinds["rollout.reverted"]) == (1, 1)
    assert all(count == 1 for (device, _), count in outcomes.items() if device is not None)
    assert len(changed) >= 2
    assert fleet.versions() == [0] * len(FLEET)


class EngineProcess:
    """Engines of tests.support.engine_process, one after the other."""

    def __init__(self, child: subprocess.Popen[str]) -> None:
        self._child = child

    def begin(self) -> int:
        """Start one; return its process id once it looks."""
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        return int(self._heard("looking"))

    def await_end(self) -> None:
        """Return when it is gone."""
        self._heard("ended")

    def _heard(self, word: str) -> str:
        assert self._child.stdout is not None
        first, _, rest = self._child.stdout.readline().strip().partition(" ")
        assert first == word
        return rest


@contextlib.contextmanager
def engine_process(data: Path) -> Iterator[EngineProcess]:
    command = [sys.executable, "-m", "tests.support.engine_process", str(data)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        yield EngineProcess(child)
        assert child.stdin is not None
        child.stdin.close()


POINTS = ("do_orm_execute", "before_flush", "after_flush", "before_commit")


def killed_at(point: int, act: Callable[[], object]) -> bool:
    """Say whether it was killed at this point: it has fewer of them otherwise."""
    seen = 0

    def count(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen > point:
            raise _KilledError

    for name in POINTS:
        sa.event.listen(Session, name, count)
    try:
        act()
    except _KilledError:
        return True
    finally:
        for name in POINTS:
            sa.event.remove(Session, name, count)
    return False


def test_of_two_registries_one_works_and_the_other_takes_over(registry: Registry) -> None:
    fleet = Fleet(registry, *FLEET)
    other = Engine(registry.services, owner="two")
    rollout = fleet.deploy(strategy=waves(1, 1, 1))
    fleet.turn()
    assert other.look() == 0
    registry.clock.at += lease.LEASE_S + 0.1
    fleet.engine = other
    fleet.turn(6)

    assert fleet.state(rollout) == "complete"
    with registry.services.reading() as session:
        (held,) = session.exec(select(tables.Lease)).all()
    assert held.owner == "two"


def test_two_engines_at_once_admit_each_device_once(registry: Registry) -> None:
    fleet = Fleet(registry, *FLEET)
    rollout = fleet.deploy(strategy={"budget": {"max_unavailable": 1}})
    engines = [Engine(registry.services, owner=name) for name in ("one", "two")]
    for _ in range(8):
        threads = [threading.Thread(target=engine.look) for engine in engines]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert list(fleet.standings(rollout).values()).count("updating") <= 1
        registry.clock.at += 3
        for name in FLEET:
            fleet.report(name)

    assert fleet.versions() == [1] * 5
    assert set(fleet.generations().values()) == {2}


def test_a_plan_rests_on_how_long_its_devices_took_lately(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0", "dev-1")
    fleet.deploy()
    fleet.engine.look()
    fleet.turn(seconds=40)

    wish = fleet.document(model="m:2", strategy=waves(1))
    planned = plain.post("/api/v1/rollouts/plan", wish)

    assert planned["expected_s"] == 80.0
    told = "measured: 2 updates of these devices, the last 0 s ago, 40 s in the middle"
    assert planned["expected"].startswith(told)


NIGHT = {"cron": "0 2 * * *", "zone": "UTC", "for_s": 3600}
"""From two to three at night; the registry's clock shows eight in the morning at first."""
HOUR_S, DAY_S = 3600.0, 86400.0


def test_a_device_keeps_to_the_download_window_and_gets_the_next_when_one_is_over(
    plain: Registry,
) -> None:
    fleet = Fleet(plain, "dev-0", "dev-1")
    fleet.away = {"dev-1"}
    night = (plain.clock.at // DAY_S + 1) * DAY_S + 2 * HOUR_S
    fleet.deploy(strategy={"gate": 0, "windows": {"download": [NIGHT]}})
    fleet.engine.look()
    first = {name: windows_of(fleet, name) for name in fleet.names}
    fleet.report("dev-0")
    fleet.turn(seconds=20 * HOUR_S)  # the night is over; dev-0 runs it, dev-1 was not heard of

    assert first == {name: [(night, night + HOUR_S)] for name in fleet.names}
    assert windows_of(fleet, "dev-0") == first["dev-0"]
    assert windows_of(fleet, "dev-1") == [(night + DAY_S, night + DAY_S + HOUR_S)]
    assert fleet.generations()["dev-0"] == 2


def test_a_device_that_goes_back_waits_for_no_download_window(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0")
    fleet.deploy(strategy={"windows": {"download": [NIGHT]}})
    fleet.turn(3)
    second = fleet.deploy(model="m:2")
    fleet.turn(3)
    fleet.order(second, "revert")
    fleet.turn(3)

    assert (fleet.versions(), windows_of(fleet, "dev-0")) == ([1], [(None, None)])


def windows_of(fleet: Fleet, name: str) -> list[tuple[float | None, float | None]]:
    return [(spec.not_before, spec.not_after) for spec in fleet.wanted(name)]


def test_candidates_and_terms_of_a_document_reach_the_device(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0")
    gate = {"requests": 10, "p95_ms": 20}
    wish = {
        "model": "m:1",
        "candidate": {"model": "m:2", "mode": "canary", "fraction": 0.1, "gate": gate},
        "download": {"budget_bytes": 1000, "metered": "allow"},
    }
    rollout = fleet.deploy(modules={"m": wish})
    fleet.turn(3)

    (spec,) = fleet.wanted("dev-0")
    assert spec.candidate is not None
    assert (spec.candidate.version, spec.candidate.fraction) == (2, 0.1)
    assert (spec.candidate.gate.requests, spec.candidate.gate.p95_ms) == (10, 20)
    assert (spec.budget_bytes, spec.metered) == (1000, "allow")
    assert fleet.state(rollout) == "complete"
    again = plain.post("/api/v1/rollouts/rollback", {"to": rollout}, 201)
    assert fleet.show(again["id"])["document"]["modules"]["m"]["candidate"]["model"] == "m:2"


def test_a_device_that_made_the_candidate_its_version_by_itself_is_updated(
    plain: Registry,
) -> None:
    fleet = Fleet(plain, "dev-0")
    beside = {"model": "m:2", "promote": "by-gate"}
    rollout = fleet.deploy(modules={"m": {"model": "m:1", "candidate": beside}})
    fleet.engine.look()
    fleet.promoted = {"dev-0"}
    fleet.turn(3)

    assert fleet.standings(rollout) == {"dev-0": "updated"}


def test_a_followed_alias_that_names_the_candidate_makes_it_the_version(plain: Registry) -> None:
    fleet = Fleet(plain, "dev-0")
    plain.http.put("/api/v1/models/m/aliases/first", json={"version": 1})
    beside = {"model": "m:2"}
    fleet.deploy(modules={"m": {"model": "m@first", "follow": True, "candidate": beside}})
    fleet.turn(3)
    plain.http.put("/api/v1/models/m/aliases/first", json={"version": 2})
    fleet.turn(3)

    (spec,) = fleet.wanted("dev-0")
    assert (spec.version, spec.candidate) == (2, None)
