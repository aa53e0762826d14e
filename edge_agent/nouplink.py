"""The uplink of a device whose identity is damaged."""

from edge_agent.uplink import UplinkHooks
from runtime.errors import LinkError
from runtime.messages import CommandResult, FetchRequest, FetchResponse


class NoUplink:
    """The uplink of a device whose identity is damaged: it infers, and reaches nobody."""

    connected = False

    def __init__(self, why: str) -> None:
        """`why` is what whoever needs the registry is told."""
        self._why = why

    def start(self, hooks: UplinkHooks) -> None:
        """Say why nothing will be heard."""
        hooks.disconnected(self._why)

    def stop(self, timeout_s: float) -> None:
        """Nothing runs."""

    def ask(self, request: FetchRequest) -> FetchResponse:
        """Raise LinkError."""
        raise LinkError(f"request {request.id}: {self._why}")

    def publish(self, batch: bytes) -> None:
        """Raise LinkError."""
        raise LinkError(f"batch of {len(batch)} bytes: {self._why}")

    def answer(self, result: CommandResult) -> None:
        """Raise LinkError."""
        raise LinkError(f"result of {result.id}: {self._why}")

    def changed(self, *, urgent: bool) -> None:
        """Nobody is told."""

    def rebuild(self) -> None:
        """There is nothing to rebuild."""

    def share(self, fleet: int) -> None:
        """There is nothing to come back to."""

    def queue(self, fleet: int) -> None:
        """There is nothing to connect to."""
