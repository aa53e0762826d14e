"""What devices recorded."""

from typing import Any

from cloud.schema import Answer


class Record(Answer):
    """One prediction."""

    id: int
    """Rises in the order of arrival."""
    device: str
    at: float
    """When it was made: by the device's clock, or the registry's estimate."""
    time_estimated: bool
    """The device had no valid clock."""
    module: str
    bundle: str
    model: str
    version: int
    latency_ms: float
    outputs: dict[str, Any] | None
    inputs: dict[str, Any] | None
    request: str | None
    source: str | None
    item: str | None
    error: str | None
    kind: str


class VersionStats(Answer):
    """What one version did, over all devices."""

    model: str
    version: int
    records: int
    devices: int
    errors: int
    latency_mean_ms: float
    latency_p50_ms: float
    latency_p95_ms: float
    first_at: float
    last_at: float


class ModelStats(Answer):
    """What each version of a model did."""

    model: str
    versions: list[VersionStats]
