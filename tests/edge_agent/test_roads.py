"""By which road bytes come, what they may cost, and when they may."""

import queue
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cloud.storage.encodings import Recipe
from edge_agent.bundles import mqttroad
from edge_agent.bundles.fetch import Fetcher
from edge_agent.bundles.mqttroad import MqttRoad, next_size
from edge_agent.bundles.patience import NotNowError
from edge_agent.bundles.purse import STEP_BYTES, BudgetError
from edge_agent.bundles.roads import MQTT_S, REFUSED_S, HttpsRoad, Roads
from edge_agent.mind.terms import Terms
from edge_agent.partdesk import PartDesk
from runtime import blobpieces
from runtime.blobpieces import MAX_PIECE_BYTES, Head, PartWanted
from runtime.bundle.blobs import BlobStore
from runtime.bundle.build import Built
from runtime.bundle.parts import PART_BYTES
from runtime.errors import InvalidError, LinkError
from runtime.retry import Backoff
from tests.support.bundle_sources import write_bundle
from tests.support.httpfiles import NO_FAULT, Fault, FileServer

BIG = random.Random(12).randbytes(2 * PART_BYTES + 1000)
Make = Callable[..., Fetcher]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FileServer]:
    with FileServer(tmp_path_factory.mktemp("registry")).running() as running:
        yield running


@pytest.fixture(scope="module")
def built(server: FileServer, tmp_path_factory: pytest.TempPathFactory) -> Built:
    source = write_bundle(tmp_path_factory.mktemp("source") / "bundle")
    (source / "table.bin").write_bytes(BIG)
    made = server.add(source)
    for digest in (made.digest, *made.files):
        server.offer(digest)
    return made


@pytest.fixture(autouse=True)
def _anew(server: FileServer) -> None:
    server.requests.clear()
    server.sent_bytes = 0
    server.plan = lambda _path, _number: NO_FAULT


class Giver:
    """The registry's side of parts over MQTT, in a thread; loses and delays as it is told."""

    def __init__(self, server: FileServer) -> None:
        self.server = server
        self.asked: list[PartWanted] = []
        self.lose: Callable[[int], bool] = lambda _number: False
        self.head: Callable[[int], Head | None] = lambda _number: None
        self.most_open = 0
        self._inbox: queue.SimpleQueue[PartWanted | None] = queue.SimpleQueue()
        self.desk = PartDesk(self._send)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _send(self, wanted: PartWanted) -> None:
        self._inbox.put(wanted)

    def close(self) -> None:
        self._inbox.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (wanted := self._inbox.get()) is not None:
            number = len(self.asked)
            self.asked.append(wanted)
            self.most_open = max(self.most_open, len(self.desk._open))
            if self.lose(number):
                continue
            given = self.head(number)
            if given is not None:
                self.desk.given(
                    blobpieces.encode(
                        Head(wanted.id, given.total, given.error, given.retryable, given.wait_s)
                    )
                )
                continue
            made = self.server.encodings.get(Recipe(wanted.blob, wanted.encoding))
            whole = made.table_bytes if wanted.table else b"".join(self.server.store.read(made.key))
            piece = whole[wanted.start : wanted.start + wanted.length]
            self.desk.given(blobpieces.encode(Head(wanted.id, total=len(whole)), piece))

    @property
    def bytes_asked(self) -> int:
        return sum(wanted.length for wanted in self.asked if not wanted.table)


@pytest.fixture
def giver(server: FileServer) -> Iterator[Giver]:
    made = Giver(server)
    yield made
    made.close()


@pytest.fixture
def make(tmp_path: Path, server: FileServer) -> Make:
    def fetcher(**changes: object) -> Fetcher:
        given: dict[str, object] = {"ask": server.answer, "ca_file": None, "reserve_bytes": 0}
        given["backoff"] = Backoff(first_s=0.001, most_s=0.01)
        blobs, work = BlobStore(tmp_path / "blobs"), tmp_path / "work"
        return Fetcher(blobs, work, **(given | changes))  # type: ignore[arg-type]  # checked by running

    return fetcher


def require_all(built: Built, fetcher: Fetcher) -> None:
    assert set(fetcher.blobs.digests()) == {built.digest, *built.files}
    for digest in fetcher.blobs.digests():
        fetcher.blobs.check(digest)


def test_a_device_that_may_open_no_other_connection_gets_all_over_mqtt(
    make: Make, built: Built, server: FileServer, giver: Giver
) -> None:
    fetcher = make(roads=Roads("mqtt", mqtt=MqttRoad(giver.desk)))

    fetcher.fetch(built.digest)

    require_all(built, fetcher)
    assert server.requests == []
    assert max(wanted.length for wanted in giver.asked) == MAX_PIECE_BYTES
    assert 1 < giver.most_open <= mqttroad.WINDOW
    assert giver.desk._open == {}


def test_lost_pieces_cost_only_themselves(make: Make, built: Built, giver: Giver) -> None:
    giver.lose = lambda number: number % 9 == 8
    fetcher = make(roads=Roads("mqtt", mqtt=MqttRoad(giver.desk, answer_s=0.1)))

    fetcher.fetch(built.digest)

    require_all(built, fetcher)
    assert giver.bytes_asked < 2 * len(BIG)


def test_a_registry_that_says_wait_is_asked_again_later(
    make: Make, built: Built, giver: Giver
) -> None:
    giver.head = lambda number: Head("", wait_s=0.01) if number % 5 == 3 else None
    fetcher = make(roads=Roads("mqtt", mqtt=MqttRoad(giver.desk)))

    fetcher.fetch(built.digest)

    require_all(built, fetcher)


def test_a_registry_that_refuses_a_piece_for_good_is_believed(
    make: Make, built: Built, giver: Giver
) -> None:
    giver.head = lambda _number: Head("", error="blob: not accepted", retryable=False)

    with pytest.raises(InvalidError, match="not accepted"):
        make(roads=Roads("mqtt", mqtt=MqttRoad(giver.desk))).fetch(built.digest)
    assert len(giver.asked) == 1


def test_a_download_goes_on_over_mqtt_where_https_left_it(
    make: Make, built: Built, server: FileServer, giver: Giver
) -> None:
    half = {"left": 3}

    def plan(path: str, _number: int) -> Fault:
        if "parts" in path:
            return NO_FAULT
        half["left"] -= 1
        return NO_FAULT if half["left"] >= 0 else Fault(cut_after=0)

    server.plan = plan
    with pytest.raises(LinkError):
        make().fetch(built.digest)
    came = server.sent_bytes
    fetcher = make(roads=Roads("mqtt", mqtt=MqttRoad(giver.desk)))

    fetcher.fetch(built.digest)

    require_all(built, fetcher)
    assert came + giver.bytes_asked < 1.05 * (len(BIG) + 10_000)


def test_the_size_of_pieces_follows_the_link() -> None:
    assert next_size(32_768, 0.1) == 65_536
    assert next_size(MAX_PIECE_BYTES, 0.1) == MAX_PIECE_BYTES
    assert next_size(32_768, 2.0) == 32_768
    assert next_size(32_768, 10.0) == 16_384
    assert next_size(4096, 10.0) == mqttroad.LEAST_BYTES


class Clock:
    at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_mqtt_is_taken_for_a_while_when_https_was_refused_for_a_while(giver: Giver) -> None:
    clock, over_mqtt = Clock(), MqttRoad(giver.desk)
    https = HttpsRoad.__new__(HttpsRoad)
    roads = Roads("auto", mqtt=over_mqtt, clock=clock)
    roads.failed(over_https=True)
    clock.at += REFUSED_S / 2
    roads.failed(over_https=True)
    assert roads.choose(https) is https
    clock.at += REFUSED_S
    roads.failed(over_https=True)
    assert roads.choose(https) is over_mqtt

    clock.at += MQTT_S
    assert roads.choose(https) is https, "perhaps it is open again"
    roads.worked(over_https=True)
    roads.failed(over_https=True)
    assert roads.choose(https) is https


def test_a_failure_over_mqtt_gives_https_another_chance(giver: Giver) -> None:
    clock, https = Clock(), HttpsRoad.__new__(HttpsRoad)
    roads = Roads("auto", mqtt=MqttRoad(giver.desk), clock=clock)
    roads.failed(over_https=True)
    clock.at += REFUSED_S
    roads.failed(over_https=True)
    assert roads.choose(https) is not https

    roads.failed(over_https=False)

    assert roads.choose(https) is https


@pytest.mark.parametrize("transport", ["https", "mqtt"])
def test_a_device_never_spends_more_than_its_budget_and_goes_on_when_it_is_raised(
    make: Make, built: Built, server: FileServer, giver: Giver, transport: str
) -> None:
    """Complaint: downloads without a byte budget make a data bill."""
    budget = PART_BYTES + 300_000
    terms = Terms("d1/0", budget_bytes=budget)
    fetcher = make(roads=Roads(transport, mqtt=MqttRoad(giver.desk)))
    for _ in range(3):
        with pytest.raises(BudgetError, match=f"of {budget} bytes are spent"):
            fetcher.fetch(built.digest, terms=terms)
        assert server.sent_bytes + giver.bytes_asked <= budget
        fetcher = make(roads=Roads(transport, mqtt=MqttRoad(giver.desk)))  # another life
    spent = server.sent_bytes + giver.bytes_asked
    assert spent > budget - 40_000

    fetcher.fetch(built.digest, terms=Terms("d1/0", budget_bytes=2 * len(BIG)))

    require_all(built, fetcher)
    assert server.sent_bytes + giver.bytes_asked < 1.05 * (len(BIG) + 10_000)


def test_a_retry_by_the_operator_is_another_budget(make: Make, built: Built) -> None:
    enough = int(0.7 * len(BIG))
    with pytest.raises(BudgetError):
        make().fetch(built.digest, terms=Terms("d1/0", budget_bytes=enough))

    fetcher = make()
    fetcher.fetch(built.digest, terms=Terms("d1/1", budget_bytes=enough))

    require_all(built, fetcher)


def test_what_a_killed_agent_may_have_spent_counts(
    make: Make, built: Built, server: FileServer
) -> None:
    """A kill costs at most one step of the budget, and never one byte beyond it."""
    budget = PART_BYTES
    written: list[int] = []

    def cancelled() -> bool:
        written.extend(
            int(path.read_text().split(":")[-1].strip("}")) for path in work.glob("*.spent")
        )
        return server.sent_bytes > PART_BYTES // 2

    fetcher = make()
    work = fetcher.work
    with pytest.raises(Exception, match="cancelled"):
        fetcher.fetch(built.digest, terms=Terms("d", budget_bytes=budget), cancelled=cancelled)

    assert budget >= max(written) >= server.sent_bytes
    assert max(written) <= server.sent_bytes + STEP_BYTES


def test_a_window_that_closes_stops_a_download_and_keeps_what_came(
    make: Make, built: Built, server: FileServer
) -> None:
    class Late:
        def now(self) -> float:
            return 1_800_000_000.0 + (server.sent_bytes > PART_BYTES)

        def monotonic(self) -> float:
            return 0.0

    window = Terms("d", not_before=1_799_999_999.0, not_after=1_800_000_001.0)
    with pytest.raises(NotNowError, match="window ended"):
        make(clock=Late()).fetch(built.digest, terms=window)
    assert PART_BYTES < server.sent_bytes < PART_BYTES + 300_000

    fetcher = make()
    fetcher.fetch(built.digest)

    require_all(built, fetcher)
    assert server.sent_bytes < 1.2 * len(BIG)


def test_on_a_metered_link_nothing_is_asked_for_unless_the_deployment_allows_it(
    make: Make, built: Built, server: FileServer
) -> None:
    server.asked.clear()
    fetcher = make(metered=True)
    with pytest.raises(NotNowError, match="not metered"):
        fetcher.fetch(built.digest, terms=Terms("d", metered=False))
    assert (server.asked, server.requests) == ([], [])

    fetcher.fetch(built.digest, terms=Terms("d", metered=True))

    require_all(built, fetcher)
    fetcher.fetch(built.digest, terms=Terms("d", metered=False))  # all is here: nothing to wait for
