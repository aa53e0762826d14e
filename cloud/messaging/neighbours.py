"""Who at a site has what, as far as devices told by asking: so that a site downloads a blob once.

The first device of a site that asks for an encoding is sent to the registry; those that ask after
it are told of the ones before, and to wait a little for them. Kept in memory: a registry that has
restarted, or another one beside it, costs a site one more download. Pure; time is given.
"""

import ipaddress
import urllib.parse
from collections import OrderedDict
from dataclasses import dataclass

from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.topics import DeviceId

WAIT_S = 10.0
"""How long a device waits for neighbours that show no progress, for each that asked before it."""
MOST_WAITS = 4
KEEP_S = 24 * 3600.0
MOST_PEERS = 8
MOST_AT_A_SITE = 256
MOST_KNOWN = 20_000


@dataclass(frozen=True)
class Advice:
    """What a device is told beside its offer."""

    peers: tuple[str, ...] = ()
    wait_s: float = 0.0


NO_ADVICE = Advice()


class Neighbours:
    """Remembers who asked for what; for one thread."""

    def __init__(self) -> None:
        self._askers: OrderedDict[tuple[str, Digest], OrderedDict[DeviceId, tuple[str, float]]]
        self._askers = OrderedDict()

    def advise(
        self, site: str, table: Digest, device: DeviceId, address: str, *, now: float
    ) -> Advice:
        """Note that a device of a site asks for an encoding; return who asked before it.

        `table` is the digest of its part table. Raises InvalidError unless `address` is one of a
        local network.
        """
        require_local(address)
        key = (site, table)
        askers = self._askers.setdefault(key, OrderedDict())
        self._askers.move_to_end(key)
        if len(self._askers) > MOST_KNOWN:
            self._askers.popitem(last=False)
        for old in [name for name, (_, at) in askers.items() if now - at > KEEP_S]:
            del askers[old]
        before = list(askers)
        rank = before.index(device) if device in askers else len(before)
        others = [known for name, (known, _) in askers.items() if name != device]
        askers[device] = (address, now)
        if len(askers) > MOST_AT_A_SITE:
            del askers[next(reversed(askers))]
        # The first ones, which have most, and the last ones, so that not all ask the same.
        half = MOST_PEERS // 2
        peers = others if len(others) <= MOST_PEERS else [*others[:half], *others[-half:]]
        # Longer for each: when the first one gets nowhere, the second begins, and not all at once.
        return Advice(tuple(peers), WAIT_S * min(rank, MOST_WAITS) if peers else 0.0)


def require_local(address: str) -> None:
    """Raise InvalidError unless this is a numeric address of a local network, and a port."""
    fix = "give a private address and a port, such as 192.168.1.20:8770"
    try:
        parts = urllib.parse.urlsplit(f"//{address}")
        place = ipaddress.ip_address(parts.hostname or "")
        ok = bool(parts.port) and parts.netloc == address and not parts.username
    except ValueError as error:
        raise InvalidError("lan", address, fix) from error
    if not ok or not place.is_private or place.is_unspecified:
        raise InvalidError("lan", address, fix)
