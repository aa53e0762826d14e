"""Parts from neighbours that the registry named, as long as they give or are about to.

Neighbours are not trusted: each part is compared with the table that the registry's offer names.
Who gives a wrong part, takes too long, or cannot be reached, is not asked again for this bundle.
"""

import collections
import contextlib
import http.client
import logging
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator

import msgspec

from edge_agent.bundles.partfile import PartFile
from edge_agent.bundles.patience import Patience
from edge_agent.lan.shelf import State
from runtime.bundle.parts import MAX_PART_BYTES, MAX_PARTS
from runtime.digests import Digest
from runtime.errors import LinkError
from runtime.messages import Offer

log = logging.getLogger(__name__)

POLL_S = 0.2
CONNECT_S, SAY_S, PART_S = 3.0, 5.0, 20.0
"""To be reached, to say what it has, to give a part. Who needs longer, because it cannot do better
or because it means harm, is no help."""
MOST_PEERS = 8
MOST_FAILURES = 3
"""A neighbour that is busy hangs up; one that always does is none."""
MOST_WAIT_S = 300.0
"""For one part, however busy a neighbour says it is."""
MAX_STATE_BYTES = MAX_PARTS // 4 + 256
_OK, _NOT_FOUND = 200, 404


class SlowError(LinkError):
    """A neighbour took longer than it may."""


class _Connection(http.client.HTTPSConnection):
    """One that another thread can cut, in whatever it hangs: handshake, headers, body."""

    cord: socket.socket | None = None
    was_cut = False

    def connect(self) -> None:
        raw = socket.create_connection((self.host, self.port or 443), CONNECT_S)
        self.cord = raw.dup()
        raw.settimeout(PART_S)
        self.sock = self._context.wrap_socket(raw)  # type: ignore[attr-defined] # not in its stub

    def cut(self) -> None:
        self.was_cut = True
        if self.cord is not None:
            with contextlib.suppress(OSError):
                self.cord.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        super().close()
        if self.cord is not None:
            self.cord.close()


class Peer:
    """One neighbour; for one thread."""

    def __init__(self, address: str, context: ssl.SSLContext) -> None:
        """`address` is a host and a port, as the registry tells it."""
        parts = urllib.parse.urlsplit(f"//{address}")
        self._connection = _Connection(parts.hostname or "", parts.port, context=context)
        self._said: dict[Digest, tuple[int, int]] = {}
        """By table what it said last: a bitmap of its parts, and how many bytes had come."""

    def has(self, offer: Offer, part: int) -> bool:
        """Say whether it said that it has a part."""
        return bool(self._said.get(offer.parts_sha256, (0, 0))[0] >> part & 1)

    def look(self, offer: Offer) -> bool:
        """Ask what it has; say whether that is more than before. Raises LinkError."""
        body = self._get(f"/v1/{offer.parts_sha256}", MAX_STATE_BYTES, SAY_S)
        if body is None:
            return False
        try:
            state = msgspec.json.decode(body, type=State)
            have = int(state.parts, 16)
        except (msgspec.DecodeError, ValueError) as error:
            raise LinkError(f"a neighbour says nonsense: {error}") from error
        before = self._said.get(offer.parts_sha256, (0, 0))
        self._said[offer.parts_sha256] = have, state.bytes
        return state.bytes > before[1]

    def part(self, offer: Offer, part: int) -> bytes:
        """Return a part that it said it has. Raises LinkError, also if it has it no more."""
        data = self._get(f"/v1/{offer.parts_sha256}/{part}", MAX_PART_BYTES, PART_S)
        if data is None:
            self._said.pop(offer.parts_sha256, None)
            raise LinkError("neighbour: it does not give what it said it has")
        return data

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def _get(self, path: str, limit_bytes: int, within_s: float) -> bytes | None:
        timer = threading.Timer(within_s, self._connection.cut)
        timer.start()
        try:
            self._connection.request("GET", path)
            response = self._connection.getresponse()
            body = response.read(limit_bytes + 1)
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            if self._connection.was_cut or isinstance(error, TimeoutError):
                raise SlowError(f"neighbour: not done within {within_s:g} s") from error
            raise LinkError(f"neighbour: {error or type(error).__name__}") from error
        finally:
            timer.cancel()
        if response.status == _NOT_FOUND:
            return None
        if response.status != _OK or len(body) > limit_bytes:
            self._connection.close()
            raise LinkError(f"neighbour: answered {response.status} and {len(body)} bytes")
        return body


class Peers:
    """The neighbours of one bundle's download; for one thread. Close it."""

    def __init__(
        self,
        context: ssl.SSLContext,
        patience: Patience,
        received: Callable[[int], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`received` is told of the bytes of each part that came."""
        self._context, self._patience, self._received = context, patience, received
        self._clock = clock
        self._known: dict[str, Peer] = {}
        self._failures: collections.Counter[str] = collections.Counter()
        self._bad: set[str] = set()
        self._done_with: set[str] = set()
        """Tables for which neighbours were waited for in vain."""

    def bring(self, offer: Offer, part_file: PartFile, part: int) -> bool:
        """Put a part into the file if a neighbour gives it; say whether one did.

        Waits as long as one of them still gets on with the same download.
        """
        if offer.parts_sha256 in self._done_with:
            return False
        give_up_at = self._clock() + offer.wait_s
        latest = self._clock() + MOST_WAIT_S
        while named := [name for name in offer.peers[:MOST_PEERS] if name not in self._bad]:
            self._patience.stop_if_cancelled()
            for name in named:
                with self._blaming(name):
                    peer = self._peer(name)
                    if self._take(peer, offer, part_file, part, name):
                        return True
                    if peer.look(offer):
                        give_up_at = self._clock() + offer.wait_s
                    if self._take(peer, offer, part_file, part, name):
                        return True
            if self._clock() >= min(give_up_at, latest):
                break
            self._patience.pause(POLL_S)
        self._done_with.add(offer.parts_sha256)
        return False

    def close(self) -> None:
        """Hang up on all."""
        for peer in self._known.values():
            peer.close()

    def _peer(self, name: str) -> Peer:
        if name not in self._known:
            self._known[name] = Peer(name, self._context)
        return self._known[name]

    def _take(self, peer: Peer, offer: Offer, part_file: PartFile, part: int, name: str) -> bool:
        if not peer.has(offer, part):
            return False
        data = peer.part(offer, part)
        self._received(len(data))
        start, stop = part_file.table.span(part)
        if len(data) == stop - start:
            part_file.write(part, 0, data)
            if part_file.complete(part):
                self._patience.progressed()
                return True
        log.warning("neighbour gave wrong bytes", extra={"neighbour": name, "part": part})
        self._bad.add(name)
        return False

    @contextlib.contextmanager
    def _blaming(self, name: str) -> Iterator[None]:
        try:
            yield
        except LinkError as error:
            self._failures[name] += MOST_FAILURES if isinstance(error, SlowError) else 1
            if self._failures[name] >= MOST_FAILURES:
                log.info("neighbour is gone", extra={"neighbour": name, "reason": str(error)})
                self._bad.add(name)
