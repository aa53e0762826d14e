"""Devices that enrol and are linked as agents are, and say that they run whatever they are told.

with obedient.fleet(directory, registry, ["dev-0"]) as devices: ...
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from cloud import shapes
from edge_agent import enrol
from edge_agent.uplink import MqttUplink, UplinkHooks
from runtime import messages
from runtime.clock import SystemClock
from runtime.link import LinkSettings
from runtime.messages import Desired, ModuleReport, ModuleSpec, Phase, Reported, RunningVersion
from runtime.topics import DeviceId
from tests.support.processes import Registry

HEARTBEAT_S = 5.0


class Device:
    """One of them."""

    def __init__(self, data: Path, registry: Registry, name: str) -> None:
        """Enrol as `name`."""
        self.id = DeviceId(name)
        with registry.client() as client:
            token = client.make_token(shapes.NewToken(labels={"site": "lab"})).token
        found = enrol.enrol(data, url=registry.url, token=token, device_id=name, facts={})
        identity = data / "identity"
        link = LinkSettings(
            host=found.broker_host,
            port=found.broker_port,
            client_id=name,
            ca_file=identity / "ca.pem",
            cert_file=identity / "device.pem",
            key_file=identity / "device.key",
        )
        self._uplink = MqttUplink(link, self.id, heartbeat_s=HEARTBEAT_S, reconnect_most_s=2.0)
        self._lock = threading.Lock()
        self._wanted = Desired(self.id, 0, 0.0, ())
        self.told: dict[int, tuple[ModuleSpec, ...]] = {}
        """Every generation that it was told, and what that was."""

    def start(self) -> None:
        """Be there."""
        self._uplink.start(
            UplinkHooks(
                connected=lambda: None,
                disconnected=lambda _reason: None,
                desired=self._hear,
                ack=lambda _payload: None,
                command=lambda _payload: None,
                compose=self._compose,
            )
        )

    def stop(self) -> None:
        """Go."""
        self._uplink.stop(2.0)

    def _hear(self, payload: bytes) -> None:
        wanted = messages.decode(Desired, payload)
        with self._lock:
            before = self.told.setdefault(wanted.generation, wanted.modules)
            assert before == wanted.modules, "one generation, two meanings"
            if wanted.generation > self._wanted.generation:
                self._wanted = wanted
        self._uplink.changed(urgent=True)

    def _compose(self) -> Reported:
        with self._lock:
            wanted = self._wanted
        modules = tuple(_running(spec) for spec in wanted.modules)
        return Reported(self.id, wanted.generation, SystemClock().now(), modules)


def _running(spec: ModuleSpec) -> ModuleReport:
    return ModuleReport(
        name=spec.name,
        phase=Phase.RUNNING,
        bundle=spec.bundle,
        model=spec.model,
        version=spec.version,
        deployment=spec.deployment,
        since=1.0,
        attempt=spec.attempt,
        running=RunningVersion(spec.bundle, spec.model, spec.version),
    )


@contextlib.contextmanager
def fleet(directory: Path, registry: Registry, names: Sequence[str]) -> Iterator[list[Device]]:
    """Enrol devices and have them there; all go with the block."""
    devices = [Device(directory / name, registry, name) for name in names]
    try:
        for device in devices:
            device.start()
        yield devices
    finally:
        for device in devices:
            device.stop()
