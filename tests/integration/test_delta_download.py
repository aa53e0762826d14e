"""A device's fetcher against a registry's answers and its store: what travels, by which road."""

import queue
import threading
from collections.abc import Callable
from pathlib import Path

from cloud.deltas.maker import Maker
from cloud.messaging.responder import Responder
from edge_agent.bundles.fetch import Fetcher
from runtime.bundle.blobs import BlobStore
from runtime.digests import Digest
from runtime.messages import FetchRequest, FetchResponse
from runtime.topics import DeviceId
from tests.support import deltas, registries, registry_rows
from tests.support.registries import Registry, Stores

DEVICE = DeviceId("dev-a")


def asking(registry: Registry, url: str) -> Callable[[FetchRequest], FetchResponse]:
    """Return what stands for the way over MQTT."""
    responder = Responder(
        registry.services,
        queue.Queue(),
        base_url=url,
        ack=lambda _message: None,
        tell=lambda _device, _response: None,
    )
    return lambda request: responder.answer(DEVICE, request)


def test_an_update_travels_as_a_delta_from_either_store(tmp_path: Path, stores: Stores) -> None:
    held: list[Digest] = []
    with (
        registries.running(tmp_path / "data", stores=stores) as registry,
        registries.listening(registry) as url,
    ):
        services = registry.services
        fetcher = Fetcher(
            BlobStore(tmp_path / "device" / "blobs"),
            tmp_path / "device" / "work",
            asking(registry, url),
            services.authority.ca_file,
            base_url=url,
            reserve_bytes=0,
            held=lambda: held,
        )
        registry_rows.add_device(services, DEVICE)
        first = deltas.push(services, tmp_path / "first", deltas.content(1))
        registry_rows.deploy(services, "scale")
        fetcher.fetch(Digest(first.bundle))
        held.append(Digest(first.bundle))
        deltas.report(services, DEVICE, first)
        second = deltas.push(services, tmp_path / "second", deltas.content(2))
        Maker(services).work(threading.Event())
        registry_rows.deploy(services, "scale")

        fetcher.fetch(Digest(second.bundle))

        fetcher.blobs.check(deltas.blob(services, second))
        cost = fetcher.transfer(Digest(second.bundle))
        assert cost.received_bytes < 0.2 * cost.whole_bytes
        assert list(fetcher.work.iterdir()) == []
