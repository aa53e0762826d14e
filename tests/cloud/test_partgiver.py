from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from cloud import tables
from cloud.messaging.intake import Arrival
from cloud.messaging.partgiver import BURST_BYTES, DEPTH, PartGiver
from cloud.registry import deployments
from cloud.registry.candidates import CandidateWish
from cloud.registry.deployments import Wish
from cloud.services import Services
from cloud.storage.encodings import Recipe
from runtime import blobpieces, messages, topics
from runtime.blobpieces import MAX_PIECE_BYTES, Head, PartWanted
from runtime.digests import Digest
from runtime.errors import LinkError
from runtime.link import Received
from runtime.topics import Channel, DeviceId
from tests.support import bundle_sources, registry_rows

A, B = DeviceId("dev-a"), DeviceId("dev-b")


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with registry_rows.services(tmp_path / "data") as opened:
        registry_rows.add_device(opened, A)
        registry_rows.add_device(opened, B)
        yield opened


@pytest.fixture
def blob(services: Services, tmp_path: Path) -> Digest:
    """The index of a bundle that A alone shall run."""
    version = registry_rows.push(services, bundle_sources.write_checked_bundle(tmp_path / "scale"))
    registry_rows.deploy(services, "scale", "device=dev-a")
    return Digest(version.bundle)


class Desk:
    def __init__(self, services: Services) -> None:
        self.told: list[tuple[DeviceId, bytes]] = []
        self.broken = False
        self.giver = PartGiver(services, self._tell)

    def _tell(self, device: DeviceId, piece: bytes) -> None:
        if self.broken:
            raise LinkError("not connected")
        self.told.append((device, piece))

    def ask(self, wanted: PartWanted, device: DeviceId = A) -> tuple[Head, bytes]:
        return blobpieces.decode(self.giver.answer(device, wanted))

    def receive(self, payload: bytes) -> None:
        received = Received(topics.render(A, Channel.PART_WANTED), payload, 7, retained=False)
        self.giver.handle(Arrival(A, received, 1.0))


@pytest.fixture
def desk(services: Services) -> Desk:
    return Desk(services)


@pytest.mark.usefixtures("blob")
def test_a_candidate_is_part_of_what_a_device_shall_run(
    desk: Desk, services: Services, tmp_path: Path
) -> None:
    source = bundle_sources.write_checked_bundle(tmp_path / "scale-2", factor=3.0)
    second = registry_rows.push(services, source)
    ask = PartWanted("1", Digest(second.bundle), "zstd", 0, 10)
    refused, _ = desk.ask(ask)
    beside = CandidateWish("scale", second.number)
    wish = Wish("scale", "device=dev-a", version=1, candidate=beside)
    with services.transaction() as session:
        deployments.create(session, wish, actor="test", now=1.0)

    given, data = desk.ask(ask)

    assert "is not part of what dev-a shall run" in refused.error
    assert (given.error, len(data)) == ("", 10)


def test_pieces_make_up_the_table_and_the_bytes(
    desk: Desk, services: Services, blob: Digest
) -> None:
    made = services.encodings.get(Recipe(blob, "zstd"))

    first, head = desk.ask(PartWanted("1", blob, "zstd", 0, 10))
    rest, tail = desk.ask(PartWanted("2", blob, "zstd", 10, MAX_PIECE_BYTES))
    table, told = desk.ask(PartWanted("3", blob, "zstd", 0, MAX_PIECE_BYTES, table=True))

    assert head + tail == b"".join(services.store.read(made.key))
    assert told == made.table_bytes
    assert (first.id, first.total, rest.total) == ("1", made.table.encoded_size, first.total)
    assert table.total == len(told)


def test_beyond_the_end_there_is_nothing(desk: Desk, blob: Digest) -> None:
    head, data = desk.ask(PartWanted("1", blob, "zstd", 1 << 40, 10))

    assert (head.error, data) == ("", b"")


def test_a_blob_of_somebody_elses_bundle_does_not_exist(desk: Desk, blob: Digest) -> None:
    assert desk.ask(PartWanted("1", blob, "zstd", 0, 10))[0].error == ""

    head, data = desk.ask(PartWanted("1", blob, "zstd", 0, 10), device=B)

    assert "is not part of what dev-b shall run" in head.error
    assert (head.retryable, data) == (True, b"")


def test_an_encoding_that_is_not_kept_makes_the_device_ask_for_another_offer(
    desk: Desk, services: Services, blob: Digest
) -> None:
    with services.reading() as session:
        others = session.exec(select(tables.BundleBlob.blob)).all()
    base = next(Digest(other) for other in others if other != blob)

    head, _ = desk.ask(PartWanted("1", blob, "patch", 0, 10, base=base))

    assert "is not kept: ask anew" in head.error
    assert head.retryable


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (PartWanted("1", Digest("../etc"), "zstd", 0, 1), "blob:"),
        (PartWanted("1", Digest("0" * 64), "zstd", 0, 1, base=Digest("x")), "base:"),
        (PartWanted("1", Digest("0" * 64), "../..", 0, 1), "encoding:"),
        (PartWanted("1", Digest("0" * 64), "zstd", -1, 1), "start: -1"),
        (PartWanted("1", Digest("0" * 64), "zstd", 0, 0), "length: 0"),
        (PartWanted("1", Digest("0" * 64), "zstd", 0, MAX_PIECE_BYTES + 1), "length:"),
    ],
)
def test_a_question_that_cannot_be_meant_is_refused_for_good(
    desk: Desk, wanted: PartWanted, words: str
) -> None:
    head, _ = desk.ask(wanted)

    assert head.error.startswith(words)
    assert not head.retryable


def test_a_device_that_is_too_fast_is_told_when_to_come_again_and_others_are_served(
    desk: Desk, services: Services, blob: Digest
) -> None:
    full = PartWanted("1", blob, "zstd", 0, MAX_PIECE_BYTES)
    for _ in range(BURST_BYTES // MAX_PIECE_BYTES):
        assert desk.ask(full)[0].wait_s == 0

    head, data = desk.ask(full)

    rate = services.settings.mqtt_parts_kbps * 125
    assert head.wait_s == pytest.approx(MAX_PIECE_BYTES / rate, abs=0.001)
    assert data == b""
    assert desk.ask(full, device=B)[0].wait_s == 0


def test_questions_that_find_no_room_are_dropped_and_nobody_waits(desk: Desk, blob: Digest) -> None:
    question = messages.encode(PartWanted("1", blob, "zstd", 0, 10))
    received = Received(topics.render(A, Channel.PART_WANTED), question, 7, retained=False)

    for _ in range(DEPTH + 10):
        desk.giver.put(Arrival(A, received, 1.0))

    assert desk.giver._inbox.qsize() == DEPTH


def test_nonsense_and_a_dead_link_do_no_harm(desk: Desk, blob: Digest) -> None:
    desk.receive(b"nonsense")
    desk.receive(messages.encode(PartWanted("x" * 1000, blob, "zstd", 0, 1)))
    desk.broken = True
    desk.receive(messages.encode(PartWanted("1", blob, "zstd", 0, 1)))

    assert desk.told == []
