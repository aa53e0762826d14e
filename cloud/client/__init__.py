"""The registry's HTTP API as Python: what the command line uses, and what scripts may use.

    with Client("https://registry.example:8443", key, ca_pem) as registry:
        registry.version("digits", "latest").version

Calls are tried again, with jitter, when the connection fails or the registry says that waiting
helps: a POST carries an Idempotency-Key, so that it is done once however often it is sent. Raises
UnreachableError when it does not answer, AbsentError or ClientError with the registry's own words
when it refuses.
"""

from typing import Self

from cloud.client.blobs import BlobCalls, Progress
from cloud.client.deployments import DeploymentCalls
from cloud.client.devices import DeviceCalls
from cloud.client.history import HistoryCalls
from cloud.client.imagelogins import ImageLoginCalls
from cloud.client.keys import KeyCalls
from cloud.client.models import ModelCalls
from cloud.client.rollouts import RolloutCalls
from cloud.client.serving import ServiceCalls
from cloud.client.telemetry import TelemetryCalls
from cloud.client.webhooks import WebhookCalls
from cloud.transport import ATTEMPTS, TIMEOUT_S, Transport

__all__ = ["Client", "Progress"]


class Client(
    ModelCalls,
    BlobCalls,
    DeviceCalls,
    DeploymentCalls,
    RolloutCalls,
    ServiceCalls,
    TelemetryCalls,
    HistoryCalls,
    KeyCalls,
    WebhookCalls,
    ImageLoginCalls,
):
    """One registry, with one key. Not for use by several threads at once."""

    def __init__(
        self,
        url: str,
        key: str,
        ca_pem: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
    ) -> None:
        """Trust `ca_pem` alone, or without one what this machine trusts. Connects when used."""
        super().__init__(Transport(url, key, ca_pem, timeout_s=timeout_s, attempts=attempts))

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
