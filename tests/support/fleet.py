"""What devices would send, put straight where the registry keeps it."""

from typing import Any

from cloud import tables
from cloud.registry import hearing
from cloud.registry.hearing import Word
from runtime.digests import Digest
from runtime.messages import ModuleReport, Phase, Presence, Reported, RunningVersion
from runtime.topics import DeviceId
from tests.support.registries import Registry


def converge(registry: Registry, device: str, deployment: Any) -> None:
    """Have a device say that it runs what is deployed."""
    module = ModuleReport(
        name=deployment["module"],
        phase=Phase.RUNNING,
        bundle=Digest(deployment["bundle"]),
        model=deployment["model"],
        version=deployment["version"],
        deployment=deployment["id"],
        since=1.0,
        attempt=deployment["attempt"],
        running=RunningVersion(Digest(deployment["bundle"]), "m", deployment["version"]),
    )
    report = Reported(device=device, generation=2, at=1.0, modules=(module,))
    now = registry.clock.at
    with registry.services.transaction() as session:
        hearing.take_over(session, [Word(DeviceId(device), report, now)])
        online = Presence(online=True, at=1.0, lease_s=60)
        hearing.take_over(session, [Word(DeviceId(device), online, now)])


def add_records(registry: Registry, device: str, version: int, latencies: list[float]) -> None:
    """Store a batch as if it had come from a device; 100 ms and more stand for errors."""
    with registry.services.transaction() as session:
        batch = tables.Batch(
            device=device,
            epoch="e",
            sequence=version,
            sent_at=1.0,
            received_at=2.0,
            records=len(latencies),
            size_bytes=10,
        )
        session.add(batch)
        session.flush()
        assert batch.id is not None
        session.add_all(
            tables.Record(
                batch_id=batch.id,
                place=place,
                device=device,
                at=100.0 + place,
                module="m",
                bundle="b",
                model="m",
                version=version,
                latency_ms=latency,
                outputs={"label": [place]} if latency < 100 else None,
                error="too slow" if latency >= 100 else None,
                kind="result",
            )
            for place, latency in enumerate(latencies)
        )
