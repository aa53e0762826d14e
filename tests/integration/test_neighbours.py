"""Devices of one site: real certificates, real registry, and what it serves is counted."""

import queue
import random
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from cloud.messaging.responder import Responder
from cloud.trust.authority import Authority
from edge_agent.bundles.fetch import Fetcher
from edge_agent.lan.sharing import Papers, Sharing
from runtime.bundle.blobs import BlobStore
from runtime.bundle.parts import PART_BYTES
from runtime.digests import Digest
from runtime.messages import FetchRequest, FetchResponse
from runtime.topics import DeviceId
from tests.support import brokers, deltas, lines, registries, registry_rows
from tests.support.lines import Line

DEVICES = [DeviceId(f"dev-{letter}") for letter in "abcde"]
BIG = random.Random(9).randbytes(6 * PART_BYTES + 1000)


class Site:
    """A registry behind a counted line, and devices that ask it."""

    def __init__(self, registry: registries.Registry, place: Path, line: Line) -> None:
        self.registry, self.place, self.line = registry, place, line
        self._url = f"https://127.0.0.1:{line.port}"
        self._turn = threading.Lock()
        self.change: Callable[[FetchResponse], FetchResponse] = lambda response: response
        self.responder = Responder(
            registry.services,
            queue.Queue(),
            base_url=self._url,
            ack=lambda _message: None,
            tell=lambda _device, _response: None,
        )
        self.devices = [self._device(name) for name in DEVICES]

    def _device(self, name: DeviceId) -> Fetcher:
        place, authority = self.place / name, self.registry.services.authority
        place.mkdir()
        cert_file, key_file = brokers.certify(authority, place, name)
        papers = Papers(authority.ca_file, cert_file, key_file)

        def ask(request: FetchRequest) -> FetchResponse:
            with self._turn:
                return self.change(self.responder.answer(name, request))

        return Fetcher(
            BlobStore(place / "blobs"),
            place / "downloads",
            ask,
            authority.ca_file,
            base_url=self._url,
            reserve_bytes=0,
            sharing=Sharing(place / "shared", papers, host="127.0.0.1"),
        )

    def fetch(self, bundle: Digest, devices: list[Fetcher]) -> None:
        """Have these devices fetch at once."""
        with ThreadPoolExecutor(len(devices)) as pool:
            list(pool.map(lambda device: device.fetch(bundle), devices))


@pytest.fixture(scope="module")
def bundle_and_registry(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Digest, Digest, registries.Registry, str]]:
    place = tmp_path_factory.mktemp("registry")
    with registries.running(place / "data") as registry, registries.listening(registry) as url:
        for name in DEVICES:
            registry_rows.add_device(registry.services, name, labels={"site": "lab"})
        version = deltas.push(registry.services, place / "scale", BIG)
        registry_rows.deploy(registry.services, "scale")
        blob = deltas.blob(registry.services, version)
        yield Digest(version.bundle), blob, registry, url


@pytest.fixture
def site(
    bundle_and_registry: tuple[Digest, Digest, registries.Registry, str], tmp_path: Path
) -> Iterator[Site]:
    _, _, registry, url = bundle_and_registry
    with lines.line(int(url.rpartition(":")[2]), delay_s=0.02) as line:
        made = Site(registry, tmp_path, line)
        for device in made.devices:
            device.start()
        try:
            yield made
        finally:
            for device in made.devices:
                device.stop()


def test_five_devices_of_a_site_cost_about_one_download(
    bundle_and_registry: tuple[Digest, Digest, registries.Registry, str], site: Site
) -> None:
    """Complaint: every device of a site downloads the same over the same thin line."""
    bundle, blob, _, _ = bundle_and_registry

    site.fetch(bundle, site.devices)

    for device in site.devices:
        device.blobs.check(blob)
        assert list(device.work.iterdir()) == []
    assert site.line.to_client <= 1.3 * len(BIG)
    costs = [device.transfer(bundle) for device in site.devices]
    assert sum(cost.neighbour_bytes for cost in costs) >= 4 * len(BIG)


def test_neighbours_that_give_nothing_or_nonsense_cost_a_wait_and_no_more(
    bundle_and_registry: tuple[Digest, Digest, registries.Registry, str], site: Site
) -> None:
    bundle, blob, _, _ = bundle_and_registry
    first, second, third, *_ = site.devices
    first.fetch(bundle)
    assert first.sharing is not None
    for kept in (site.place / "dev-a" / "shared").iterdir():
        if kept.suffix != ".table" and kept.stat().st_size > PART_BYTES:
            kept.write_bytes(bytes(kept.stat().st_size))  # its disk has lied
    second.sharing = Sharing(site.place / "else", first.sharing.papers, host="127.0.0.1")
    second.sharing.start()

    def hurry(response: FetchResponse) -> FetchResponse:
        offers = tuple(
            msgspec.structs.replace(offer, wait_s=min(offer.wait_s, 0.3))
            for offer in response.offers
        )
        return msgspec.structs.replace(response, offers=offers)

    site.change = hurry
    second.fetch(bundle)
    second.sharing.stop()
    first.stop()
    third.fetch(bundle)

    second.blobs.check(blob)
    third.blobs.check(blob)
    assert site.line.to_client >= 3 * len(BIG)


def test_a_stranger_gets_nothing(
    bundle_and_registry: tuple[Digest, Digest, registries.Registry, str],
    site: Site,
    tmp_path: Path,
) -> None:
    bundle, _, _, _ = bundle_and_registry
    site.devices[0].fetch(bundle)
    sharing = site.devices[0].sharing
    assert sharing is not None
    tables = [path.stem for path in (site.place / "dev-a" / "shared").glob("*.table")]
    url = f"https://{sharing.address()}/v1/{tables[0]}"
    member = urllib.request.urlopen(url, context=sharing.papers.for_asking())
    assert member.status == 200

    other = Authority.open(tmp_path / "other")
    cert_file, key_file = brokers.certify(other, tmp_path, "dev-a")
    stranger = Papers(other.ca_file, cert_file, key_file).for_asking()
    nobody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    for context in (stranger, nobody):
        with pytest.raises(OSError):
            urllib.request.urlopen(url, context=context)
