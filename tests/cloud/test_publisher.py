import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cloud import tables
from cloud.messaging.publisher import Publisher
from cloud.registry import devices
from cloud.services import Change, Services
from runtime import messages
from runtime.errors import LinkError, PartlyPublishedError
from runtime.messages import Desired
from runtime.topics import DeviceId
from tests.support import brokers, bundle_sources, registry_rows
from tests.support.registries import Stores

A, B = DeviceId("dev-a"), DeviceId("dev-b")


class Broker:
    """Takes what is published, while it is up."""

    def __init__(self) -> None:
        self.up, self.most = True, 256
        self.taken: list[tuple[DeviceId, int]] = []

    def publish(self, rows: Sequence[tuple[DeviceId, bytes]]) -> None:
        for number, (device, body) in enumerate(rows):
            if not self.up or number >= self.most:
                raise PartlyPublishedError("not connected", taken=number)
            self.taken.append((device, messages.decode(Desired, body).generation))


@pytest.fixture
def services(tmp_path: Path, stores: Stores) -> Iterator[Services]:
    with registry_rows.services(tmp_path / "data", stores=stores) as opened:
        registry_rows.add_device(opened, A)
        registry_rows.add_device(opened, B)
        yield opened


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def publisher(services: Services, broker: Broker) -> Publisher:
    return Publisher(services, broker.publish)


def publish(
    publisher: Publisher, *, everything: bool = False, lagging: set[DeviceId] | None = None
) -> None:
    publisher.publish(everything=everything, lagging=lagging or set(), stopping=threading.Event())


def relabel(services: Services, device: DeviceId, site: str) -> None:
    with services.transaction() as session:
        devices.set_labels(session, device, {"site": site}, actor="key:test", now=1.0)


def test_each_generation_is_published_once(
    services: Services, broker: Broker, publisher: Publisher, tmp_path: Path
) -> None:
    publish(publisher)
    publish(publisher)
    registry_rows.push(services, bundle_sources.write_bundle(tmp_path / "scale"))
    registry_rows.deploy(services, "scale", "device=dev-a")
    publish(publisher)

    assert broker.taken == [(A, 1), (B, 1), (A, 2)]


def test_a_broker_that_may_have_lost_its_store_gets_everything(
    broker: Broker, publisher: Publisher
) -> None:
    publish(publisher)
    publish(publisher, everything=True)

    assert broker.taken == [(A, 1), (B, 1)] * 2


def test_what_the_broker_did_not_take_is_published_later(
    services: Services, broker: Broker, publisher: Publisher
) -> None:
    broker.up = False
    with pytest.raises(LinkError):
        publish(publisher)
    broker.up = True
    publish(publisher)

    assert broker.taken == [(A, 1), (B, 1)]
    with services.reading() as session:
        row = session.get(tables.Desired, A)
        assert row is not None
        assert row.published_generation == 1


def test_what_the_broker_took_before_it_went_away_is_not_published_twice(
    broker: Broker, publisher: Publisher
) -> None:
    broker.most = 1
    with pytest.raises(LinkError):
        publish(publisher)
    broker.most = 256
    publish(publisher)

    assert broker.taken == [(A, 1), (B, 1)]


def test_a_device_that_lags_gets_its_row_again_but_not_at_any_rate(
    broker: Broker, publisher: Publisher
) -> None:
    publish(publisher)
    publisher.again(A)
    assert publisher._lagging == set(), "it was sent less than a second ago"

    publisher._sent_at[A] -= 2.0
    publisher.again(A)
    publish(publisher, lagging=publisher._lagging)

    assert broker.taken == [(A, 1), (B, 1), (A, 1)]


def test_a_revoked_device_is_told_nothing_any_more(
    services: Services, broker: Broker, publisher: Publisher, tmp_path: Path
) -> None:
    registry_rows.push(services, bundle_sources.write_bundle(tmp_path / "scale"))
    registry_rows.deploy(services, "scale")
    publish(publisher)
    with services.transaction() as session:
        devices.revoke(session, A, actor="key:test", now=1.0)
    publish(publisher, everything=True)

    assert broker.taken == [(A, 2), (B, 2), (B, 2)]


def test_the_thread_publishes_what_is_committed_and_survives_a_broker_that_is_away(
    services: Services, broker: Broker, publisher: Publisher, tmp_path: Path
) -> None:
    stopping = threading.Event()
    services.notifier.subscribe(Change.DESIRED, publisher.wake)
    thread = threading.Thread(target=publisher.run, args=(stopping,))
    thread.start()
    try:
        brokers.eventually(lambda: len(broker.taken) == 2, "both rows are out")
        broker.up = False
        registry_rows.push(services, bundle_sources.write_bundle(tmp_path / "scale"))
        registry_rows.deploy(services, "scale", "device=dev-b")
        broker.up = True
        brokers.eventually(lambda: (B, 2) in broker.taken, "the new row is out")
    finally:
        stopping.set()
        publisher.wake()
        thread.join(10.0)
    assert not thread.is_alive()
