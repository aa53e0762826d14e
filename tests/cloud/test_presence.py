import itertools
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, event
from sqlmodel import select

from cloud import database, tables
from cloud.messaging import presence
from cloud.messaging.intake import Arrival, Inbox
from cloud.messaging.presence import Presences
from cloud.registry import desired
from cloud.services import Services
from runtime import messages, topics
from runtime.digests import Digest
from runtime.link import Received
from runtime.messages import ModuleReport, Phase, Presence, Reported
from runtime.topics import Channel, DeviceId
from tests.support import brokers, bundle_sources, registry_rows
from tests.support.registries import Stores

A = DeviceId("dev-a")
NOW = 1_800_000_000.0
REPORT = Reported(device=A, generation=1, at=NOW, vitals={"load_1m": 0.5})
RUNNING = ModuleReport(
    name="scale",
    phase=Phase.RUNNING,
    bundle=Digest("ab" * 32),
    model="scale",
    version=1,
    deployment="dep-1",
    since=NOW,
)


@pytest.fixture
def services(tmp_path: Path, stores: Stores) -> Iterator[Services]:
    with registry_rows.services(tmp_path / "data", stores=stores) as opened:
        registry_rows.add_device(opened, A)
        yield opened


class Desk:
    def __init__(self, services: Services) -> None:
        self.acked: list[int] = []
        self.acked_at: list[float] = []
        self.republished: list[DeviceId] = []
        self.writes = 0
        self.services = services
        self.inbox: Inbox = queue.Queue()
        self.presences = Presences(
            services,
            self.inbox,
            ack=self._ack,
            republish=self.republished.append,
        )
        event.listen(services.engine, "commit", self._count)

    def _ack(self, messages: Sequence[Received]) -> None:
        if messages:
            self.acked_at.append(time.monotonic())
        self.acked.extend(message.mid for message in messages)

    def _count(self, connection: Connection) -> None:
        self.writes += database.writes(connection)

    def hear(
        self, *said: Reported | Presence | bytes, at: float = NOW, retained: bool = False
    ) -> None:
        self.presences.handle([arrival(one, at=at, retained=retained) for one in said])

    def device(self) -> tables.Device:
        with self.services.reading() as session:
            row = session.get(tables.Device, A)
            assert row is not None
            session.expunge(row)
            return row

    def told(self) -> Reported:
        """What the device said last, by the database."""
        self.presences.flush()
        return msgspec.convert(self.device().reported, Reported)

    def history(self) -> list[str]:
        with self.services.reading() as session:
            rows = session.exec(select(tables.Event).where(tables.Event.subject == A))
            return [row.kind for row in rows]


def arrival(said: Reported | Presence | bytes, *, at: float, retained: bool) -> Arrival:
    channel = Channel.PRESENCE if isinstance(said, Presence) else Channel.REPORTED
    payload = said if isinstance(said, bytes) else messages.encode(said)
    return Arrival(A, Received(topics.render(A, channel), payload, 3, retained, qos=1), at)


@pytest.fixture
def desk(services: Services) -> Desk:
    return Desk(services)


def test_a_report_is_seen_at_once(desk: Desk) -> None:
    desk.hear(msgspec.structs.replace(REPORT, modules=(RUNNING,), facts={"arch": "x86_64"}))

    row = desk.device()
    assert (row.last_seen, row.reported_generation, row.facts) == (NOW, 1, {"arch": "x86_64"})
    assert desk.history() == ["device.online", "device.converged"]
    assert desk.acked == [3]


def test_a_failure_is_told_once_with_its_reason(desk: Desk) -> None:
    failed = msgspec.structs.replace(RUNNING, phase=Phase.FAILED, reason="check: y is off")
    report = msgspec.structs.replace(REPORT, modules=(failed,))
    desk.hear(report)
    desk.hear(msgspec.structs.replace(report, drops={"ttl": 1}))

    assert desk.history() == ["device.online", "device.failed"]


def test_news_are_not_undone_by_a_heartbeat_that_came_just_before_them(desk: Desk) -> None:
    """As in a burst: both wait for the registry, and are taken together."""
    newer = msgspec.structs.replace(REPORT, generation=2, modules=(RUNNING,))
    desk.hear(REPORT)

    desk.hear(REPORT, newer, at=NOW + 1)
    before = desk.device().reported_generation

    assert (before, desk.told().generation) == (2, 2)


def test_a_device_that_goes_back_within_a_moment_is_seen_to_be_back(desk: Desk) -> None:
    newer = msgspec.structs.replace(REPORT, modules=(RUNNING,))
    desk.hear(REPORT)

    desk.hear(newer, REPORT, at=NOW + 1)

    assert desk.device().reported == msgspec.to_builtins(REPORT)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(
    st.lists(
        st.lists(st.tuples(st.integers(1, 3), st.integers(0, 1)), min_size=1, max_size=5),
        min_size=1,
        max_size=4,
    )
)
def test_however_reports_come_together_the_last_one_counts(
    desk: Desk, groups: list[list[tuple[int, int]]]
) -> None:
    for group in groups:
        said = [
            msgspec.structs.replace(REPORT, generation=generation, vitals={"load_1m": float(load)})
            for generation, load in group
        ]
        desk.hear(*said)
        assert desk.device().reported_generation == said[-1].generation
        assert desk.told() == said[-1]


def test_reports_that_come_close_together_are_written_together(desk: Desk) -> None:
    stopping = threading.Event()
    running = threading.Thread(target=desk.presences.run, args=(stopping,))
    running.start()
    for generation in range(1, 41):
        said = msgspec.structs.replace(REPORT, generation=generation)
        desk.inbox.put(arrival(said, at=NOW, retained=False))
        threading.Event().wait(0.001)

    brokers.eventually(lambda: len(desk.acked) == 40, "all were taken over")
    stopping.set()
    running.join()
    assert desk.device().reported_generation == 40
    assert len(desk.acked_at) > 1
    for earlier, later in itertools.pairwise(desk.acked_at):
        assert later - earlier >= presence.GATHER_S


def test_heartbeats_are_not_written_one_by_one(desk: Desk) -> None:
    desk.hear(REPORT)
    writes = desk.writes
    for beat in range(1, 20):
        desk.hear(msgspec.structs.replace(REPORT, vitals={"load_1m": beat}), at=NOW + beat)
    assert desk.writes == writes

    desk.presences.flush()

    row = desk.device()
    assert desk.writes == writes + 1
    assert row.last_seen == NOW + 19
    assert row.reported is not None
    assert row.reported["vitals"] == {"load_1m": 19}


def test_news_are_not_undone_by_an_older_heartbeat(desk: Desk) -> None:
    desk.hear(REPORT)
    desk.hear(REPORT, at=NOW + 1)
    desk.hear(msgspec.structs.replace(REPORT, modules=(RUNNING,)), at=NOW + 2)
    desk.presences.flush()

    row = desk.device()
    assert (row.last_seen, len((row.reported or {})["modules"])) == (NOW + 2, 1)


def test_a_device_goes_online_and_offline(desk: Desk) -> None:
    desk.hear(Presence(online=True, at=NOW, lease_s=90.0))
    assert (desk.device().online, desk.device().lease_s) == (True, 90.0)

    desk.hear(Presence(online=False, at=NOW, lease_s=90.0), at=NOW + 5)
    assert desk.device().online is False


def test_a_retained_presence_is_no_sign_of_life(desk: Desk) -> None:
    """The broker repeats it whenever the registry subscribes, days later perhaps."""
    desk.hear(Presence(online=True, at=NOW, lease_s=90.0), at=NOW + 9e5, retained=True)

    assert (desk.device().online, desk.device().last_seen) == (True, None)


def test_a_device_that_missed_its_desired_state_gets_it_again(
    desk: Desk, services: Services, tmp_path: Path
) -> None:
    registry_rows.push(services, bundle_sources.write_bundle(tmp_path / "scale"))
    desk.hear(REPORT)
    assert desk.republished == []

    registry_rows.deploy(services, "scale")
    desk.hear(REPORT)

    assert desk.republished == [A]


def test_a_registry_from_a_backup_overtakes_what_devices_have_seen(
    desk: Desk, services: Services
) -> None:
    desk.hear(msgspec.structs.replace(REPORT, generation=41))

    with services.reading() as session:
        now = desired.read(session, A)
    assert now is not None
    assert now.generation == 42


def test_a_change_of_facts_may_change_what_it_shall_run(
    desk: Desk, services: Services, tmp_path: Path
) -> None:
    registry_rows.push(services, bundle_sources.write_bundle(tmp_path / "scale"))
    registry_rows.deploy(services, "scale", "arch=aarch64")
    desk.hear(msgspec.structs.replace(REPORT, facts={"arch": "aarch64"}))

    with services.reading() as session:
        now = desired.read(session, A)
    assert now is not None
    assert [module.name for module in now.modules] == ["scale"]


@pytest.mark.parametrize(
    "payload",
    [
        b"nonsense",
        messages.encode(msgspec.structs.replace(REPORT, device="dev-b")),
        messages.encode(msgspec.structs.replace(REPORT, generation=1 << 60)),
    ],
    ids=["no message", "in another name", "absurd generation"],
)
def test_what_cannot_be_believed_is_dropped(desk: Desk, payload: bytes) -> None:
    desk.hear(payload)

    assert (desk.device().reported, desk.acked) == (None, [3])


def test_a_revoked_device_is_not_heard(desk: Desk, services: Services) -> None:
    with services.transaction() as session:
        row = session.get(tables.Device, A)
        assert row is not None
        row.revoked_at = NOW

    desk.hear(REPORT)

    assert (desk.device().reported, desk.acked) == (None, [3])
