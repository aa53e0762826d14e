"""What a bundle's way to this device costs, counted as it happens."""

from dataclasses import dataclass, field

from runtime.digests import Digest
from runtime.messages import Transfer


@dataclass
class Spent:
    """What the way of one bundle has cost since the agent started, over all tries."""

    received_bytes: int = 0
    neighbour_bytes: int = 0
    whole: dict[Digest, int] = field(default_factory=dict)
    """Bytes of each blob that was brought, had it come whole."""

    @property
    def transfer(self) -> Transfer:
        """The same as it is reported."""
        return Transfer(self.received_bytes, sum(self.whole.values()), self.neighbour_bytes)
