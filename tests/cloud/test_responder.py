import queue
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlmodel import select

from cloud import tables
from cloud.messaging.intake import Arrival
from cloud.messaging.responder import Responder
from cloud.services import Services
from cloud.storage.encodings import Recipe
from runtime import digests, messages, topics
from runtime.bundle import parts
from runtime.digests import Digest
from runtime.errors import LinkError
from runtime.link import Received
from runtime.messages import FetchRequest, FetchResponse
from runtime.topics import Channel, DeviceId
from tests.support import bundle_sources, registry_rows
from tests.support.registries import Stores

A, B = DeviceId("dev-a"), DeviceId("dev-b")
URL = "https://registry.example:8443"


@pytest.fixture
def services(tmp_path: Path, stores: Stores) -> Iterator[Services]:
    with registry_rows.services(tmp_path / "data", stores=stores) as opened:
        registry_rows.add_device(opened, A)
        registry_rows.add_device(opened, B)
        yield opened


@pytest.fixture
def bundle(services: Services, tmp_path: Path) -> Digest:
    """A bundle that A alone shall run."""
    version = registry_rows.push(services, bundle_sources.write_checked_bundle(tmp_path / "scale"))
    registry_rows.deploy(services, "scale", "device=dev-a")
    return Digest(version.bundle)


def arrival(device: DeviceId, payload: bytes, number: int) -> Arrival:
    topic = topics.render(device, Channel.REQUEST)
    return Arrival(device, Received(topic, payload, number, retained=False, qos=1), 1.0)


class Desk:
    def __init__(self, services: Services) -> None:
        self.told: list[tuple[DeviceId, FetchResponse]] = []
        self.acked: list[int] = []
        self.link_is_down = False
        self.responder = Responder(
            services,
            queue.Queue(),
            base_url=URL,
            ack=lambda messages: self.acked.extend(message.mid for message in messages),
            tell=self._tell,
        )

    def _tell(self, device: DeviceId, response: FetchResponse) -> None:
        if self.link_is_down:
            raise LinkError("not connected")
        self.told.append((device, response))

    def receive(self, payload: bytes) -> None:
        self.responder.handle([arrival(A, payload, 7)])


@pytest.fixture
def desk(services: Services) -> Desk:
    return Desk(services)


def ask(*blobs: Digest, encodings: tuple[str, ...] = ("zstd",)) -> FetchRequest:
    return FetchRequest("r1", blobs, encodings)


def test_a_device_is_offered_the_index_and_the_files_of_what_it_shall_run(
    desk: Desk, services: Services, bundle: Digest
) -> None:
    with services.reading() as session:
        blobs = session.exec(select(tables.BundleBlob.blob)).all()

    response = desk.responder.answer(A, ask(*map(Digest, blobs)))

    assert (response.error, len(response.offers)) == ("", len(blobs))
    offer = next(offer for offer in response.offers if offer.blob == bundle)
    assert offer.size == services.blobs.size(bundle)
    encoded = services.encodings.get(Recipe(bundle, "zstd"))
    direct = [services.store.url(key, ttl_s=60) for key in (encoded.key, encoded.table_key)]
    ours = [f"{URL}/dl/zstd/{bundle}", f"{URL}/dl/zstd/{bundle}/parts"]
    for given, ready, own in zip((offer.url, offer.parts_url), direct, ours, strict=True):
        assert given.partition("?")[0] == (ready or own).partition("?")[0]
    assert offer.parts_sha256 == digests.of_bytes(encoded.table_bytes)
    assert parts.decode(encoded.table_bytes).encoded_size == offer.encoded_size


def test_a_blob_of_somebody_elses_bundle_does_not_exist(desk: Desk, bundle: Digest) -> None:
    response = desk.responder.answer(B, ask(bundle))

    assert response.offers == ()
    assert "is not part of what dev-b shall run" in response.error
    assert response.retryable


def test_an_unknown_bundle_is_named_and_asked_for_again(
    desk: Desk, services: Services, bundle: Digest
) -> None:
    """The registry was restored without it, or somebody wrote a desired state by hand."""
    with services.transaction() as session:
        row = session.get(tables.Desired, A)
        assert row is not None
        row.body = row.body.replace(bundle, "0" * 64)

    response = desk.responder.answer(A, ask(Digest("0" * 64)))

    assert response.error.startswith("desired state for an unknown bundle: scale")
    assert response.retryable


def test_a_blob_that_is_gone_from_the_disk_is_an_error_text(
    desk: Desk, services: Services, bundle: Digest
) -> None:
    services.blobs.delete(bundle)

    response = desk.responder.answer(A, ask(bundle))

    assert response.offers == ()
    assert f"this registry has lost blob {bundle}: push the bundle again" in response.error
    assert response.retryable


def test_without_a_common_encoding_there_is_no_offer(desk: Desk, bundle: Digest) -> None:
    response = desk.responder.answer(A, ask(bundle, encodings=("tensor-delta",)))

    assert "this registry sends zstd" in response.error
    assert not response.retryable


def test_too_many_blobs_at_once_are_refused(desk: Desk, bundle: Digest) -> None:
    response = desk.responder.answer(A, ask(*[bundle] * (messages.MAX_OFFER_BLOBS + 1)))

    assert "at most 64" in response.error


def test_too_many_held_bundles_are_refused(desk: Desk, bundle: Digest) -> None:
    held = (bundle,) * (messages.MAX_HELD_BUNDLES + 1)
    request = FetchRequest("r1", (bundle,), ("zstd",), bundle=bundle, held=held)

    assert "held: '33 digests' is not accepted" in desk.responder.answer(A, request).error


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"memory_bytes": -1}, "memory_bytes: -1 is not accepted"),
        ({"encodings": ("zstd",) * 33}, "encodings: '33 encodings' is not accepted"),
        ({"blobs": ("x" * 100_000,)}, "blobs: 'xxx"),
    ],
    ids=["memory", "encodings", "blobs"],
)
def test_a_request_that_cannot_be_meant_is_refused_in_few_words(
    desk: Desk, bundle: Digest, changes: dict[str, object], words: str
) -> None:
    request = msgspec.structs.replace(ask(bundle), **changes)

    desk.receive(messages.encode(request))

    ((_, response),) = desk.told
    assert response.error.startswith(words)
    assert len(response.error) < 500
    assert desk.acked == [7]


def test_held_bundles_that_are_unknown_or_no_digests_do_no_harm(desk: Desk, bundle: Digest) -> None:
    for held in (Digest("0" * 64), Digest("../../etc/passwd")):
        request = FetchRequest(
            "r1", (bundle,), ("zstd", "patch"), bundle=bundle, held=(held,), memory_bytes=1 << 40
        )
        response = desk.responder.answer(A, request)
        assert [offer.encoding for offer in response.offers] == ["zstd"] * (held[0] == "0")


def test_an_answer_never_grows_beyond_what_may_travel(
    desk: Desk, bundle: Digest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """URLs of object stores may be long; the device asks again for what is not in the answer."""
    monkeypatch.setattr(messages, "MAX_MESSAGE_BYTES", 4000)

    response = desk.responder.answer(A, ask(*[bundle] * 64))

    assert 0 < len(response.offers) < 64
    assert len(messages.encode(response)) <= 4000


def test_nonsense_is_dropped_and_does_not_come_again(desk: Desk) -> None:
    desk.receive(b"nonsense")
    desk.receive(messages.encode(FetchRequest("x" * 1000, (), ())))

    assert (desk.told, desk.acked) == ([], [7, 7])


def test_a_lost_answer_is_the_devices_to_ask_again(desk: Desk, bundle: Digest) -> None:
    desk.link_is_down = True
    desk.receive(messages.encode(ask(bundle)))
    desk.link_is_down = False
    desk.receive(messages.encode(ask(bundle)))

    assert [device for device, _ in desk.told] == [A]
    assert desk.told[0][1].id == "r1"


def test_devices_of_a_site_that_share_are_told_of_each_other(
    desk: Desk, services: Services, bundle: Digest
) -> None:
    for name in (A, B):
        with services.transaction() as session:
            row = session.get(tables.Device, name)
            assert row is not None
            row.labels = {"site": "lab"}
            session.add(row)
    registry_rows.deploy(services, "scale")
    sharing = {name: f"10.0.0.{number}:8770" for number, name in enumerate((A, B))}

    first, second = (
        desk.responder.answer(name, msgspec.structs.replace(ask(bundle), lan=sharing[name]))
        for name in (A, B)
    )
    alone = desk.responder.answer(B, ask(bundle))
    odd = desk.responder.answer(B, msgspec.structs.replace(ask(bundle), lan="example.com:1"))

    assert (first.offers[0].peers, first.offers[0].wait_s) == ((), 0.0)
    assert second.offers[0].peers == (sharing[A],)
    assert second.offers[0].wait_s > 0
    assert alone.offers[0].peers == odd.offers[0].peers == ()


def test_a_question_that_was_given_up_and_asked_anew_is_answered_once(
    desk: Desk, bundle: Digest
) -> None:
    """A fleet that asks faster than it is answered must not be answered twice as slowly for it."""
    first, again = ask(bundle), msgspec.structs.replace(ask(bundle), id="r2")

    desk.responder.handle(
        [
            arrival(A, messages.encode(first), 1),
            arrival(B, messages.encode(first), 2),
            arrival(A, b"no request", 3),
            arrival(A, messages.encode(again), 4),
        ]
    )

    assert {(device, answer.id) for device, answer in desk.told} == {(A, "r2"), (B, "r1")}
    assert [bool(answer.offers) for device, answer in desk.told if device == A] == [True]
    assert [answer.error for device, answer in desk.told if device == B] != [""], "B may not"
    assert desk.acked == [1, 2, 3, 4]
