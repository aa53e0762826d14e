"""What is special to PostgreSQL: its lock, its limits, its restarts."""

import contextlib
import queue
import random
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlmodel import col, func, select

from cloud import database, tables
from cloud.errors import DatabaseError
from cloud.messaging.ingest import Ingester
from cloud.messaging.intake import Arrival
from cloud.registry import desired
from cloud.services import Services
from runtime import batches, topics
from runtime.errors import InvalidError
from runtime.link import Received
from runtime.messages import Ack
from runtime.topics import Channel, DeviceId
from tests.support import records, registries
from tests.support.brokers import eventually
from tests.support.postgres import Server
from tests.support.registries import Registry, Stores

NOW = 1_800_000_000.0
THREADS = 8
ROUNDS = 5


@pytest.fixture
def stores(postgres_server: Server) -> Iterator[Stores]:
    name = postgres_server.make()
    yield Stores("postgresql+directory", {"database_url": postgres_server.url(name)})
    postgres_server.drop(name)


@pytest.fixture
def registry(tmp_path: Path, stores: Stores) -> Iterator[Registry]:
    with registries.running(tmp_path, stores=stores) as running:
        yield running


class Intake:
    """An ingester in its thread, fed with batches of a device; remembers what it acked."""

    def __init__(self, services: Services, device: str) -> None:
        self._device = DeviceId(device)
        self._inbox: queue.Queue[Arrival] = queue.Queue()
        self.stored: list[int] = []
        self._stopping = threading.Event()
        self._ingester = Ingester(
            services, self._inbox, ack=lambda _message: None, tell=self._remember
        )
        self._thread = threading.Thread(target=self._ingester.run, args=(self._stopping,))

    def _remember(self, _device: DeviceId, ack: Ack) -> None:
        self.stored += ack.stored

    def put(self, sequence: int) -> None:
        made = [records.digits(10 * sequence + n, random.Random(n)) for n in range(3)]
        payload = batches.encode_batch(
            device=self._device, epoch="e", sequence=sequence, sent_at=NOW, records=made
        )
        topic = topics.render(self._device, Channel.TELEMETRY)
        received = Received(topic, payload, sequence, retained=False, qos=1)
        self._inbox.put(Arrival(self._device, received, NOW))

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stopping.set()
            self._thread.join()


def stored(services: Services) -> int:
    with services.reading() as session:
        return session.exec(select(func.count(col(tables.Record.id)))).one()


def test_whoever_writes_at_once_gets_numbers_without_gaps(registry: Registry) -> None:
    """Eight clients push, enrol and deploy; all is as if one came after another."""
    registry.register("m", b"first")

    def work(client: int) -> None:
        for each in range(ROUNDS):
            registry.register("m", f"{client}-{each}".encode())
            registry.enrol(f"dev-{client}-{each}", labels={"client": str(client)})
            registry.post("/api/v1/deployments", {"model": "m", "selector": f"client={client}"})

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(work, range(THREADS)))

    count = THREADS * ROUNDS
    with registry.services.transaction() as session:
        numbers = session.exec(select(tables.Version.number)).all()
        sequences = session.exec(select(tables.Deployment.sequence)).all()
        changed = desired.recompute(session, now=NOW)
        rows = session.exec(select(tables.Desired)).all()
        modules = [desired.read(session, DeviceId(row.device)) for row in rows]
    assert sorted(numbers) == list(range(1, count + 2))
    assert len(set(sequences)) == count
    assert changed == []
    assert len(rows) == count
    assert all(each is not None and len(each.modules) == 1 for each in modules)


def test_events_are_committed_in_the_order_of_their_numbers(registry: Registry) -> None:
    """Whoever resumes behind the last number seen must have missed nothing below it."""
    seen: list[int | None] = []
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            with registry.services.reading() as session:
                query = select(col(tables.Event.id)).where(
                    col(tables.Event.id) > (seen[-1] if seen else 0)
                )
                seen.extend(session.exec(query.order_by(col(tables.Event.id))).all())

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda _: registry.token(), range(THREADS * ROUNDS)))
    with registry.services.reading() as session:
        all_of_them = session.exec(
            select(col(tables.Event.id)).order_by(col(tables.Event.id))
        ).all()
    eventually(lambda: len(seen) >= len(all_of_them), "all events seen")
    done.set()
    watcher.join()

    assert seen == list(all_of_them)


def test_telemetry_does_not_wait_for_other_writers(registry: Registry) -> None:
    registry.enrol("one")
    intake = Intake(registry.services, "one")
    with registry.services.transaction(), intake.working():
        intake.put(1)
        eventually(lambda: intake.stored == [1], "telemetry stored while a transaction is open")

    assert stored(registry.services) == 3


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["restart", "crash"])
def test_a_restart_of_the_server_costs_some_answers_and_no_telemetry(
    registry: Registry, postgres_server: Server, number: signal.Signals
) -> None:
    registry.enrol("one")
    statuses: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            statuses.append(registry.http.post("/api/v1/devices/tokens", json={}).status_code)

    client = threading.Thread(target=ask)
    intake = Intake(registry.services, "one")
    with intake.working():
        client.start()
        for sequence in range(1, 41):
            intake.put(sequence)
        eventually(lambda: 201 in statuses, "the first token")
        postgres_server.stop(number)
        eventually(lambda: 503 in statuses, "an answer without a database")
        postgres_server.start()
        statuses.clear()
        eventually(lambda: 201 in statuses, "tokens again, by itself")
        done.set()
        client.join()
        eventually(lambda: len(set(intake.stored)) == 40, "all telemetry acked")

    assert set(statuses) <= {201, 503}
    assert stored(registry.services) == 40 * 3


def test_text_that_the_database_cannot_hold_is_refused(registry: Registry) -> None:
    registry.register("m", b"1")
    wish = {"model": "m", "selector": "a=b", "name": "nul: \0"}

    answer = registry.http.post("/api/v1/deployments", json=wish)

    assert answer.status_code == 422
    assert answer.json()["type"] == "urn:packhorse:problem:invalid"


def test_the_password_may_come_from_the_environment(
    postgres_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with postgres_server.connect() as connection:
        connection.execute("DROP ROLE IF EXISTS careful")
        connection.execute("CREATE ROLE careful LOGIN PASSWORD 'open sesame' SUPERUSER")
    name = postgres_server.make()
    engine = database.open_engine(postgres_server.url(name, "careful"))

    with pytest.raises(DatabaseError, match="no password supplied"):
        database.migrate(engine)
    monkeypatch.setenv("PGPASSWORD", "open sesame")
    database.migrate(engine)

    engine.dispose()
    postgres_server.drop(name)


def test_a_commit_is_durable_even_where_the_default_is_not(
    registry: Registry, postgres_server: Server
) -> None:
    with registry.services.engine.connect() as connection:
        name = connection.exec_driver_sql("SELECT current_database()").scalar_one()
    with postgres_server.connect() as connection:
        connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = off'.encode())
    registry.services.engine.dispose()

    with registry.services.engine.connect() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"


def test_a_database_that_cannot_hold_all_letters_is_refused(postgres_server: Server) -> None:
    with postgres_server.connect() as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
    engine = database.open_engine(postgres_server.url("latin"))

    with pytest.raises(InvalidError, match="ENCODING 'UTF8'"):
        database.migrate(engine)

    engine.dispose()
    postgres_server.drop("latin")


def test_readers_cannot_write(registry: Registry) -> None:
    with (
        pytest.raises(Exception, match="read-only transaction"),
        registry.services.reading() as session,
    ):
        session.connection().exec_driver_sql("DELETE FROM device")
