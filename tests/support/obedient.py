"""Devices that enrol and are linked as agents are, and say that they run whatever they are told.

with obedient.fleet(directory, registry, ["dev-0"]) as devices:
    ...
    obedient.require_done_once(client, rollout, devices, waves=3)
"""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from cloud import shapes
from cloud.client import Client
from edge_agent import enrol
from edge_agent.uplink import MqttUplink, UplinkHooks
from runtime import messages
from runtime.clock import SystemClock
from runtime.link import LinkSettings
from runtime.messages import Desired, ModuleReport, ModuleSpec, Phase, Reported, RunningVersion
from runtime.topics import DeviceId
from tests.support.processes import Registry, eventually

HEARTBEAT_S = 5.0


class Device:
    """One of them."""

    def __init__(self, data: Path, registry: Registry, name: str, *, takes_s: float = 0.0) -> None:
        """Enrol as `name`; what it is told runs after so long."""
        self.id, self._takes_s = DeviceId(name), takes_s
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
        self.changes: list[tuple[float, float]] = []
        """When it was told to run something else, and when that ran."""
        self._changing: threading.Timer | None = None

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
        if self._changing is not None:
            self._changing.cancel()
        self._uplink.stop(2.0)

    def _hear(self, payload: bytes) -> None:
        wanted = messages.decode(Desired, payload)
        with self._lock:
            before = self.told.setdefault(wanted.generation, wanted.modules)
            assert before == wanted.modules, "one generation, two meanings"
            if wanted.generation > self._wanted.generation:
                if wanted.modules != self._wanted.modules:
                    self._change()
                self._wanted = wanted
        self._uplink.changed(urgent=True)

    def _change(self) -> None:
        now = time.monotonic()
        self.changes.append((now, now + self._takes_s))
        if self._takes_s:
            self._changing = threading.Timer(
                self._takes_s, self._uplink.changed, (), {"urgent": True}
            )
            self._changing.start()

    def _compose(self) -> Reported:
        with self._lock:
            wanted = self._wanted
            runs = all(until <= time.monotonic() for _, until in self.changes)
        modules = tuple(_told(spec, runs=runs) for spec in wanted.modules)
        return Reported(self.id, wanted.generation, SystemClock().now(), modules)


def _told(spec: ModuleSpec, *, runs: bool) -> ModuleReport:
    return ModuleReport(
        name=spec.name,
        phase=Phase.RUNNING if runs else Phase.FETCHING,
        bundle=spec.bundle,
        model=spec.model,
        version=spec.version,
        deployment=spec.deployment,
        since=1.0,
        attempt=spec.attempt,
        running=RunningVersion(spec.bundle, spec.model, spec.version) if runs else None,
    )


@contextlib.contextmanager
def fleet(
    directory: Path, registry: Registry, names: Sequence[str], *, takes_s: float = 0.0
) -> Iterator[list[Device]]:
    """Enrol devices and have them there; all go with the block."""
    devices = [Device(directory / name, registry, name, takes_s=takes_s) for name in names]
    try:
        for device in devices:
            device.start()
        yield devices
    finally:
        for device in devices:
            device.stop()


def require_done_once(
    client: Client, rollout: str, devices: Sequence[Device], *, waves: int
) -> None:
    """Wait until a rollout of one change is complete; fail if anything of it happened twice."""
    eventually(
        lambda: client.rollout(rollout).rollout.state == "complete", f"{rollout} is complete"
    )
    told = Counter(
        (each.kind, str(each.data.get("wave", each.data.get("device", ""))))
        for each in client.events(subject=rollout)
    )
    assert set(told.values()) == {1}, told
    assert [each for each in told if each[0] == "rollout.wave_started"] == [
        ("rollout.wave_started", str(number)) for number in range(waves)
    ]
    ended = {device for kind, device in told if kind == "rollout.device_ended"}
    assert ended == {device.id for device in devices}
    assert [len(device.changes) for device in devices] == [1] * len(devices)
    finals = Counter(each.subject for each in client.events(kind="device.converged"))
    assert finals == dict.fromkeys(ended, 1)


def most_at_once(devices: Sequence[Device]) -> int:
    """Return how many of them at most were on their way to something else at one moment."""
    changes = [change for device in devices for change in device.changes]
    return max(sum(begun <= at < over for begun, over in changes) for at, _ in changes)
