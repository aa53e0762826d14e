"""The roads by which a blob's bytes come, and which one is taken.

    https    ranges of a presigned URL: the registry's own, or its object store's
    mqtt     pieces by request over the link that stands anyway

By itself a device takes https; when that has not got through for a while, mqtt for a longer one.
"""

import contextlib
import time
import urllib.parse
from collections.abc import Callable, Generator
from typing import Protocol

from edge_agent.bundles.ranges import READ_BYTES, RangeClient
from edge_agent.bundles.valve import Valve
from runtime.bundle import parts
from runtime.messages import Offer

REFUSED_S = 30.0
"""So long https must have failed, without a byte, before mqtt is tried."""
MQTT_S = 3600.0
"""So long mqtt is taken then."""
_DIGEST_BYTES = 67
_TABLE_HEAD_BYTES = 512


class Road(Protocol):
    """A way for the bytes of one encoded blob; for one thread.

    Both methods raise LinkError where waiting may help (ExpiredError: with another offer),
    InvalidError where it does not, and what `valve` raises.
    """

    def table(self, offer: Offer, valve: Valve) -> bytes:
        """Return the offer's part table, not yet checked."""
        ...

    def read(
        self, offer: Offer, start: int, stop: int, valve: Valve
    ) -> Generator[bytes, None, None]:
        """Yield encoded bytes from `start`, as they arrive; perhaps fewer than up to `stop`."""
        ...


class HttpsRoad:
    """Ranges over HTTP."""

    def __init__(self, client: RangeClient, base_url: str) -> None:
        """Offers without a host are relative to `base_url`."""
        self._client, self._base_url = client, base_url

    def table(self, offer: Offer, valve: Valve) -> bytes:
        """Return the offer's part table, not yet checked."""
        expected = table_bytes(offer)
        valve.wait(valve.room(expected, least=expected))
        url = urllib.parse.urljoin(self._base_url, offer.parts_url)
        data = self._client.read_whole(url, limit_bytes=parts.MAX_TABLE_BYTES)
        valve.count(len(data), waited_for=expected)
        return data

    def read(
        self, offer: Offer, start: int, stop: int, valve: Valve
    ) -> Generator[bytes, None, None]:
        """Yield encoded bytes from `start`, as they arrive."""
        stop = start + valve.room(stop - start)
        most = valve.most(READ_BYTES)
        url = urllib.parse.urljoin(self._base_url, offer.url)
        with contextlib.closing(self._client.read(url, start, stop, most=most)) as chunks:
            while start < stop:
                size = min(most, stop - start)
                valve.wait(size)
                chunk = b""
                try:
                    chunk = next(chunks)
                finally:
                    valve.count(len(chunk), waited_for=size)
                start += len(chunk)
                yield chunk
                valve.patience.require_leave()


class Roads:
    """Chooses a road; keeps in mind, for the agent's life, what did not get through."""

    def __init__(
        self,
        transport: str = "auto",
        *,
        mqtt: Road | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`transport` is the setting; `mqtt` is that road, where the link has one."""
        self._transport, self._mqtt, self._clock = transport, mqtt, clock
        self._refused_since: float | None = None
        self._mqtt_until = 0.0

    def choose(self, https: Road) -> Road:
        """Return the road to take now."""
        if self._mqtt is None or self._transport == "https":
            return https
        if self._transport == "mqtt" or self._clock() < self._mqtt_until:
            return self._mqtt
        return https

    def failed(self, *, over_https: bool) -> None:
        """Take note that a road did not get through."""
        now = self._clock()
        if not over_https:
            self._mqtt_until = 0.0  # perhaps https does again
            self._refused_since = now
        elif self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since >= REFUSED_S:
            self._mqtt_until = now + MQTT_S

    def worked(self, *, over_https: bool) -> None:
        """Take note that bytes came."""
        if over_https:
            self._refused_since = None


def table_bytes(offer: Offer) -> int:
    """Return how large the part table of an offer is at most, as the registry cuts."""
    return _TABLE_HEAD_BYTES + _DIGEST_BYTES * (offer.encoded_size // parts.PART_BYTES + 1)
