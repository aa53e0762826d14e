"""Devices of one site, with real certificates, and what their registry serves is counted."""

import contextlib
import random
import ssl
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from cloud.messaging.neighbours import Neighbours
from cloud.trust.authority import Authority
from edge_agent.bundles.fetch import Fetcher
from edge_agent.lan.sharing import Papers, Sharing
from edge_agent.lan.shelf import Shelf
from runtime import digests
from runtime.bundle.blobs import BlobStore
from runtime.bundle.build import Built
from runtime.bundle.parts import PART_BYTES
from runtime.messages import FetchRequest, FetchResponse, Offer
from runtime.topics import DeviceId
from tests.support import brokers
from tests.support.bundle_sources import write_bundle
from tests.support.httpfiles import FileServer

pytestmark = pytest.mark.slow

BIG = random.Random(9).randbytes(3 * PART_BYTES + 1000)
BIG_DIGEST = digests.of_bytes(BIG)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.open(tmp_path_factory.mktemp("authority"))


class Site:
    """A registry of files, and devices that ask it and each other."""

    def __init__(self, server: FileServer, authority: Authority, place: Path) -> None:
        self.server, self.place, self._authority = server, place, authority
        self.neighbours, self._turn = Neighbours(), threading.Lock()
        self.wait_s = 60.0
        self.devices = [self._device(f"dev-{letter}") for letter in "abcde"]

    def papers(self, name: str) -> Papers:
        cert_file, key_file = brokers.certify(self._authority, self.place / name, name)
        return Papers(self._authority.ca_file, cert_file, key_file)

    def _device(self, name: str) -> Fetcher:
        place = self.place / name
        place.mkdir(parents=True)

        def ask(request: FetchRequest) -> FetchResponse:
            with self._turn:
                answer = self.server.answer(request)
                offers = tuple(self._advised(one, name, request.lan) for one in answer.offers)
            return FetchResponse(request.id, offers)

        return Fetcher(
            BlobStore(place / "blobs"),
            place / "downloads",
            ask,
            None,
            reserve_bytes=0,
            sharing=Sharing(place / "shared", self.papers(name), host="127.0.0.1"),
        )

    def _advised(self, offer: Offer, name: str, lan: str) -> Offer:
        if not lan:
            return offer
        given = self.neighbours.advise("lab", offer.parts_sha256, DeviceId(name), lan, now=0.0)
        wait_s = self.wait_s if given.wait_s else 0.0
        return msgspec.structs.replace(offer, peers=given.peers, wait_s=wait_s)


@pytest.fixture
def site(tmp_path: Path, authority: Authority) -> Iterator[Site]:
    with FileServer(tmp_path / "registry").running() as server, contextlib.ExitStack() as opened:
        made = Site(server, authority, tmp_path / "site")
        for device in made.devices:
            device.start()
            opened.callback(device.stop)
        yield made


@pytest.fixture
def built(site: Site, tmp_path: Path) -> Built:
    source = write_bundle(tmp_path / "source")
    (source / "table.bin").write_bytes(BIG)
    made = site.server.add(source)
    for digest in (made.digest, *made.files):
        site.server.offer(digest)
    return made


def sharing(device: Fetcher) -> Sharing:
    assert device.sharing is not None
    return device.sharing


def test_five_devices_of_a_site_cost_about_one_download(site: Site, built: Built) -> None:
    """Complaint: every device of a site downloads the same over the same thin line."""
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda device: device.fetch(built.digest), site.devices))

    for device in site.devices:
        device.blobs.check(BIG_DIGEST)
        assert list(device.work.iterdir()) == []
    assert site.server.sent_bytes <= 1.3 * len(BIG)
    costs = [device.transfer(built.digest) for device in site.devices]
    assert sum(cost.neighbour_bytes for cost in costs) >= 4 * len(BIG)


def test_neighbours_that_give_nonsense_or_nothing_cost_a_wait_and_no_more(
    site: Site, built: Built
) -> None:
    first, second, third, *_ = site.devices
    first.fetch(built.digest)
    for kept in (site.place / "dev-a" / "shared").iterdir():
        if kept.suffix != ".table" and kept.stat().st_size > PART_BYTES:
            kept.write_bytes(bytes(kept.stat().st_size))  # its disk has lied
    site.wait_s = 0.3
    second.fetch(built.digest)
    first.stop()
    second.stop()

    third.fetch(built.digest)

    second.blobs.check(BIG_DIGEST)
    third.blobs.check(BIG_DIGEST)
    assert site.server.sent_bytes >= 3 * len(BIG)


def test_wrong_bytes_of_a_neighbour_are_noticed(
    site: Site, built: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = site.devices
    first.fetch(built.digest)
    true_read = Shelf.read

    def lie(self: Shelf, table: digests.Digest, part: int) -> bytes | None:
        data = true_read(self, table, part)
        return data and bytes([data[0] ^ 1]) + data[1:]

    monkeypatch.setattr(Shelf, "read", lie)
    second.fetch(built.digest)

    second.blobs.check(BIG_DIGEST)
    assert site.server.sent_bytes >= 2 * len(BIG)


def test_a_stranger_gets_nothing(site: Site, built: Built, tmp_path: Path) -> None:
    first = site.devices[0]
    first.fetch(built.digest)
    tables = [path.stem for path in (site.place / "dev-a" / "shared").glob("*.table")]
    url = f"https://{sharing(first).address()}/v1/{tables[0]}"
    member = sharing(site.devices[1]).papers.for_asking()
    with urllib.request.urlopen(url, context=member) as answer:
        assert answer.status == 200

    other = Authority.open(tmp_path / "other")
    cert_file, key_file = brokers.certify(other, tmp_path, "dev-a")
    stranger = Papers(other.ca_file, cert_file, key_file).for_asking()
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    for context in (stranger, nobody):
        with pytest.raises(OSError, match=r"."):
            urllib.request.urlopen(url, context=context)


def test_what_is_kept_for_neighbours_is_bounded_and_goes_when_the_disk_is_needed(
    site: Site, built: Built
) -> None:
    first = site.devices[0]
    first.fetch(built.digest)
    place = site.place / "dev-a" / "shared"
    kept = sum(path.stat().st_size for path in place.iterdir())
    assert kept > len(BIG)

    Shelf(place, cap_bytes=10_000)
    left = [path.stat().st_size for path in place.iterdir()]
    assert sum(left) <= 20_000
    sharing(first).shelf.clear()

    assert list(place.iterdir()) == []


def test_a_port_that_is_taken_turns_sharing_off_and_nothing_else(site: Site, built: Built) -> None:
    first, second, *_ = site.devices
    port = int(sharing(first).address().rpartition(":")[2])
    papers = sharing(second).papers
    second.stop()
    second.sharing = Sharing(site.place / "x", papers, host="127.0.0.1", port=port)
    second.start()

    second.fetch(built.digest)

    assert sharing(second).address() == ""
    second.blobs.check(BIG_DIGEST)
