import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import alembic.command
import msgspec
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DatabaseError
from sqlmodel import select

from cloud import database, migrating, tables
from cloud.cli import history as history_command
from cloud.registry import hearing
from cloud.registry.hearing import Word
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.messages import ModuleReport, Phase, Presence, Reported, RunningVersion
from runtime.topics import DeviceId
from tests.support import registries
from tests.support.registries import Registry, Stores

NOW = 1_800_000_000.0
HOUR_S = 3600.0
ONE, TWO = Digest("ab" * 32), Digest("cd" * 32)
BUNDLES = {1: ONE, 2: TWO}


class Teller:
    """A device that reports, at times that a test chooses."""

    def __init__(self, registry: Registry, device: str = "dev-a") -> None:
        self.registry, self.device = registry, DeviceId(device)
        registry.enrol(device)

    def runs(self, version: int | None, *, since: float = 0.0, **how: Any) -> None:
        """Say that a version answers inference, since then by the device's own clock."""
        running = version and RunningVersion(BUNDLES[version], "scale", version)
        module = ModuleReport(
            name="scale",
            phase=Phase.RUNNING if version else Phase.FAILED,
            bundle=BUNDLES[version or 1],
            model="scale",
            version=version or 1,
            deployment=f"dep-{version}",
            since=since or self.registry.clock.at,
            running=running or None,
            reason="" if version else "worker died",
        )
        self.report(msgspec.structs.replace(module, **how))

    def report(self, *modules: ModuleReport) -> None:
        now = self.registry.clock.at
        report = Reported(device=self.device, generation=1, at=now, modules=modules)
        with self.registry.services.transaction() as session:
            hearing.take_over(session, [Word(self.device, report, now)])

    def connects(self, *, online: bool) -> None:
        word = Presence(online=online, at=self.registry.clock.at, lease_s=180.0)
        with self.registry.services.transaction() as session:
            hearing.take_over(session, [Word(self.device, word, self.registry.clock.at)])


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores) as running:
        yield running


@pytest.fixture
def teller(registry: Registry) -> Teller:
    made = Teller(registry)
    made.connects(online=True)
    return made


def later(registry: Registry, seconds: float = HOUR_S) -> float:
    registry.clock.at += seconds
    return registry.clock.at


def runs(registry: Registry, query: str = "") -> list[Any]:
    """What ran, oldest first."""
    found: list[Any] = registry.get(f"/api/v1/history/runs?{query}")["items"]
    return found[::-1]


def at(registry: Registry, moment: float, query: str = "device=dev-a") -> Any:
    (only,) = registry.get(f"/api/v1/history/moment?at={moment}&{query}")["items"]
    return only


def versions(found: Any) -> list[int]:
    return [each["version"] for each in found["runs"]]


def test_a_run_is_from_when_to_when_by_whose_act(registry: Registry, teller: Teller) -> None:
    registry.register("scale", b"one")
    made = registry.post("/api/v1/deployments", {"model": "scale", "selector": "device=dev-a"})
    later(registry, 10)
    teller.runs(1, since=NOW + 5, deployment=made["id"])
    later(registry, 10)
    teller.runs(2, since=NOW + 15)
    first, second = runs(registry)

    assert (first["from_at"], first["until_at"]) == (NOW + 5, NOW + 15)
    assert (first["deployment"], first["actor"]) == (made["id"], "key:admin")
    assert not first["from_estimated"]
    assert not first["until_estimated"]
    assert first["ended_reason"] == "replaced by scale:2"
    assert (second["from_at"], second["until_at"]) == (NOW + 15, None)
    assert (second["deployment"], second["actor"]) == ("dep-2", None)  # nobody knows that one
    assert second["last_heard"] == NOW + 20


def test_what_stays_the_same_is_one_run(registry: Registry, teller: Teller) -> None:
    for _ in range(3):
        teller.runs(1)
        later(registry, 10)

    assert len(runs(registry)) == 1


@pytest.mark.parametrize("since", [5.0, NOW - 1e6, NOW + 1e6])
def test_a_clock_that_cannot_be_right_is_not_believed(
    registry: Registry, teller: Teller, since: float
) -> None:
    """At 1970, before the report before, or in the future: it is when the registry heard of it."""
    teller.runs(1)
    later(registry, 60)
    teller.runs(2, since=since)
    first, second = runs(registry)

    assert (first["until_at"], first["until_estimated"]) == (NOW + 60, True)
    assert (second["from_at"], second["from_estimated"]) == (NOW + 60, True)


def test_a_worker_that_dies_ends_a_run_with_its_reason(registry: Registry, teller: Teller) -> None:
    teller.runs(1)
    later(registry, 60)
    teller.runs(None, since=NOW + 30)
    (only,) = runs(registry)

    assert (only["until_at"], only["ended_reason"]) == (NOW + 30, "stopped: worker died")


def test_a_module_that_is_gone_ends_its_run(registry: Registry, teller: Teller) -> None:
    teller.runs(1)
    later(registry, 60)
    teller.report()

    assert runs(registry)[0]["ended_reason"] == "removed"


def test_what_runs_while_the_next_is_fetched_is_the_old(registry: Registry, teller: Teller) -> None:
    teller.runs(1)
    later(registry, 60)
    teller.runs(2, phase=Phase.FETCHING, running=RunningVersion(ONE, "scale", 1))

    assert [(each["version"], each["until_at"]) for each in runs(registry)] == [(1, None)]


def test_a_fall_back_is_by_the_deployment_of_then(registry: Registry, teller: Teller) -> None:
    teller.runs(1)
    later(registry, 60)
    teller.runs(2)
    later(registry, 60)
    teller.runs(2, phase=Phase.FAILED, reason="bad", running=RunningVersion(ONE, "scale", 1))

    assert [(each["version"], each["deployment"]) for each in runs(registry)] == [
        (1, "dep-1"),
        (2, "dep-2"),
        (1, "dep-1"),
    ]


def test_what_ran_at_a_moment_is_told(registry: Registry, teller: Teller) -> None:
    teller.runs(1)
    change = later(registry, 60)
    teller.runs(2)
    later(registry, 60)
    teller.connects(online=True)

    assert versions(at(registry, change - 1)) == [1]
    assert versions(at(registry, change)) == [2]
    assert at(registry, change)["heard"] == "heard"
    assert versions(at(registry, change, "model=scale&version=2")) == [2]
    assert registry.get(f"/api/v1/history/moment?at={change}&model=other")["items"] == []


def test_a_device_that_was_silent_is_said_to_have_been(registry: Registry, teller: Teller) -> None:
    """It ran something, and nobody knows what: it may have been switched off."""
    teller.runs(1)
    teller.connects(online=False)
    away = later(registry)
    back = later(registry)
    teller.connects(online=True)
    teller.runs(1)
    silent = at(registry, away)

    assert (silent["heard"], silent["last_heard"]) == ("silent", NOW)
    assert versions(silent) == [1]
    assert at(registry, NOW)["heard"] == "heard"
    assert at(registry, back)["heard"] == "heard"
    assert len(runs(registry)) == 1


def test_a_device_that_never_came_back_is_silent_since(registry: Registry, teller: Teller) -> None:
    teller.runs(1)
    moment = later(registry)
    later(registry)
    found = at(registry, moment)

    assert (found["heard"], found["last_heard"]) == ("silent", NOW)
    assert runs(registry)[0]["last_heard"] == NOW


def test_of_a_device_that_was_never_heard_nothing_is_known(registry: Registry) -> None:
    registry.enrol("dev-new")
    moment = later(registry)
    found = at(registry, moment, "device=dev-new")

    assert (found["heard"], found["runs"]) == ("never", [])
    assert registry.get(f"/api/v1/history/moment?at={NOW - 1}&device=dev-new")["items"] == []


def test_before_its_first_word_nothing_is_known(registry: Registry) -> None:
    registry.enrol("dev-a")
    moment = later(registry, 10)
    later(registry, 10)
    with registry.services.transaction() as session:
        word = Presence(online=True, at=0.0, lease_s=60.0)
        hearing.take_over(session, [Word(DeviceId("dev-a"), word, registry.clock.at)])

    assert at(registry, moment)["heard"] == "never"


def test_revoking_ends_what_is_known(registry: Registry, teller: Teller) -> None:
    teller.runs(1)
    end = later(registry, 60)
    registry.post("/api/v1/devices/dev-a/revoke", None)
    later(registry, 60)
    (only,) = runs(registry)

    assert (only["until_at"], only["ended_reason"]) == (end, "device revoked")
    assert at(registry, end + 1)["heard"] == "silent"


def test_enrolling_again_begins_a_new_history(registry: Registry, teller: Teller) -> None:
    teller.runs(1)
    later(registry, 60)
    registry.enrol("dev-a", device_id="dev-a")
    later(registry, 60)
    teller.connects(online=True)
    teller.runs(1)
    first, second = runs(registry)

    assert first["ended_reason"] == "enrolled again"
    assert second["from_at"] >= NOW + 60
    assert at(registry, NOW)["heard"] == "heard"
    assert at(registry, NOW + 30)["heard"] == "silent"


def test_the_future_is_not_asked_about(registry: Registry) -> None:
    assert registry.http.get(f"/api/v1/history/moment?at={NOW + 1}").status_code == 422


def test_runs_are_found_by_device_model_and_deployment_page_by_page(
    registry: Registry, teller: Teller
) -> None:
    other = Teller(registry, "dev-b")
    for version in (1, 2, 1):
        teller.runs(version)
        later(registry, 10)
    other.runs(2)

    def found(query: str) -> list[tuple[str, int]]:
        return [(each["device"], each["version"]) for each in runs(registry, query)]

    assert found("device=dev-b") == [("dev-b", 2)]
    assert found("model=scale&version=2") == [("dev-a", 2), ("dev-b", 2)]
    assert found("deployment=dep-1") == [("dev-a", 1), ("dev-a", 1)]
    page = registry.get("/api/v1/history/runs?limit=3")
    assert found(f"limit=3&cursor={page['next']}") == [("dev-a", 1)]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM run",
        "UPDATE run SET version = 9",
        "UPDATE run SET until_at = 5 WHERE until_at IS NOT NULL",
    ],
)
def test_the_database_refuses_to_change_what_ran(
    registry: Registry, teller: Teller, statement: str
) -> None:
    teller.runs(1)
    teller.runs(2)

    def rewrite() -> None:
        with registry.services.transaction() as session:
            session.connection().execute(text(statement))

    with pytest.raises(DatabaseError, match="append-only"):
        rewrite()


def test_questions_about_one_device_or_model_use_an_index(tmp_path: Path) -> None:
    with registries.running(tmp_path) as registry, registry.services.reading() as session:
        plans = [
            str(session.connection().execute(text(f"EXPLAIN QUERY PLAN {query}")).all())
            for query in (
                "SELECT * FROM run WHERE device = 'a' AND from_at <= 5",
                "SELECT * FROM run WHERE model = 'm' AND version = 1 AND from_at <= 5",
                "SELECT * FROM run WHERE device = 'a' AND module = 'm' AND until_at IS NULL",
                "SELECT * FROM run WHERE deployment = 'd'",
                "SELECT * FROM event WHERE subject = 'a' AND kind IN ('x') AND at > 5",
            )
        ]

    assert [plan for plan in plans if "USING INDEX" not in plan] == []


def test_a_device_with_years_of_history_tells_an_end_as_quickly_as_a_new_one(
    tmp_path: Path,
) -> None:
    with registries.running(tmp_path) as registry, registry.services.reading() as session:
        query = hearing.LAST_ENDS.params(module="m", among=["a", "b"]).compile(
            session.connection(), compile_kwargs={"literal_binds": True}
        )
        plan = str(session.connection().execute(text(f"EXPLAIN QUERY PLAN {query}")).all())

    assert plan.count("ix_event_subject_kind (subject=? AND kind=?)") == 2
    assert "SCAN event" not in plan
    assert plan.count("TEMP B-TREE") <= 1, "no history is sorted, only what was found"


def test_at_most_one_run_is_open_for_each_module(registry: Registry, teller: Teller) -> None:
    for version in (1, 2, None, 1, None, 2):
        teller.runs(version)
        later(registry, 1)
    with registry.services.reading() as session:
        rows = session.exec(select(tables.Run)).all()

    assert len([row for row in rows if row.until_at is None]) == 1
    assert all(row.until_at is None or row.until_at >= row.from_at for row in rows)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [("2026-05-01T12:00Z", 1777636800.0), ("2026-05-01T14:00+02:00", 1777636800.0), ("5", 5.0)],
)
def test_times_are_read_as_people_write_them(said: str, seconds: float) -> None:
    assert history_command.moment(said) == seconds


@pytest.mark.parametrize("said", ["yesterday", "", "2026-13-01"])
def test_what_is_no_time_is_refused(said: str) -> None:
    with pytest.raises(InvalidError, match="2026-05-01T12:00Z"):
        history_command.moment(said)


def test_what_devices_ran_before_there_was_a_history_begins_it(tmp_path: Path) -> None:
    """A registry of the first release is upgraded: what it last heard is where history begins."""
    engine = database.open_engine(f"sqlite:///{tmp_path / 'registry.db'}")
    config = migrating.config()
    running = {"bundle": ONE, "model": "scale", "version": 1}
    module = {"name": "scale", "phase": "running", "bundle": ONE, "deployment": "dep-1",
              "since": NOW - 5, "running": running}  # fmt: skip
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        alembic.command.upgrade(config, "0001")
        connection.execute(
            text(
                "INSERT INTO device (id, labels, facts, created_at, certificate_serial, "
                "certificate_not_after, reported, reported_at, reported_generation) "
                "VALUES ('dev-a', '{}', '{}', 1, '1', 2, :reported, :at, 1)"
            ),
            {"reported": json.dumps({"modules": [module]}), "at": NOW},
        )
    database.migrate(engine)
    with database.reading(engine) as session:
        row = session.exec(select(tables.Run)).one()
    engine.dispose()

    assert (row.device, row.version, row.from_at, row.until_at) == ("dev-a", 1, NOW - 5, None)
