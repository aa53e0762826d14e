"""A bundle over a real broker alone: the device has no other connection to its registry."""

import random
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cloud.crew import Crew
from cloud.messaging.wire import BrokerLogin, Wire
from cloud.turns import Turn
from edge_agent.bundles.fetch import Fetcher
from edge_agent.bundles.mqttroad import MqttRoad
from edge_agent.bundles.roads import Roads
from edge_agent.uplink import MqttUplink, UplinkHooks
from runtime.bundle.blobs import BlobStore
from runtime.bundle.parts import PART_BYTES
from runtime.digests import Digest
from runtime.messages import Reported
from runtime.topics import DeviceId
from tests.support import brokers, deltas, registries, registry_rows
from tests.support.brokers import Broker, eventually

DEVICE = DeviceId("dev-a")
BIG = random.Random(6).randbytes(2 * PART_BYTES + 1000)


@pytest.fixture(params=["nats", "mosquitto"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    with brokers.either(request.param, tmp_path / "broker", [DEVICE]) as running:
        yield running


def test_a_bundle_comes_over_the_brokers_link_alone_and_reports_go_on(
    broker: Broker, tmp_path: Path
) -> None:
    services = registries.services(tmp_path / "data", clock=registries.SetClock())
    services.clock.monotonic = time.monotonic  # type: ignore[method-assign] # buckets fill
    registry_rows.add_device(services, DEVICE)
    version = deltas.push(services, tmp_path / "scale", BIG)
    registry_rows.deploy(services, "scale")
    authority = broker.authority
    login = BrokerLogin(
        broker.host,
        broker.port,
        authority.ca_file,
        authority.registry_cert_file,
        authority.registry_key_file,
    )
    crew, connected = Crew(), threading.Event()
    turn = Turn(services.engine)
    wire = Wire(services, login, crew, turn, base_url="https://nowhere.invalid:1")
    uplink = MqttUplink(broker.settings(DEVICE), DEVICE, heartbeat_s=60)
    hooks = UplinkHooks(
        connected=connected.set,
        disconnected=lambda _reason: None,
        desired=lambda _payload: None,
        ack=lambda _payload: None,
        command=lambda _payload: None,
        compose=lambda: Reported(DEVICE, 1, 0.0),
    )
    fetcher = Fetcher(
        BlobStore(tmp_path / "device" / "blobs"),
        tmp_path / "device" / "work",
        uplink.ask,
        None,
        reserve_bytes=0,
        roads=Roads("mqtt", mqtt=MqttRoad(uplink.parts)),
    )
    try:
        wire.start()
        eventually(lambda: wire.connected, "the registry is connected")
        uplink.start(hooks)
        assert connected.wait(20)

        fetcher.fetch(Digest(version.bundle))
    finally:
        uplink.stop(5)
        crew.stopping.set()
        wire.part()
        crew.stop(5)
        services.engine.dispose()

    fetcher.blobs.check(deltas.blob(services, version))
    cost = fetcher.transfer(Digest(version.bundle))
    assert cost.received_bytes < 1.05 * cost.whole_bytes
