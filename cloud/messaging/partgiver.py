"""Gives pieces of encoded blobs to devices that have MQTT alone.

    question ──► its device's bucket ──► its desired state ──► the encoding ──► piece
                 too fast: wait_s        not in it: error      gone: error

Everything is bounded: the questions that wait, how fast one device is served, how large a piece is.
A question that finds no room is dropped: its device asks again.
"""

import logging
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable

from sqlalchemy.exc import OperationalError
from sqlmodel import col, select

from cloud import tables
from cloud.messaging import intake
from cloud.messaging.intake import Arrival, Inbox
from cloud.registry import candidates, desired
from cloud.services import Services
from cloud.storage.encodings import EncodedBlob, Recipe
from runtime import blobpieces, bytebucket, digests, messages
from runtime.blobpieces import MAX_PIECE_BYTES, Head, PartWanted
from runtime.bundle import encodings
from runtime.bytebucket import ByteBucket
from runtime.digests import Digest
from runtime.errors import InvalidError, LinkError, PackhorseError
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

DEPTH = 256
GROUP = 16
MAX_ID_CHARACTERS = 128
REMEMBERED = 4096
"""Devices whose buckets are known; one that was forgotten begins with a full one."""
LEAVE_S = 30.0
"""How long a device that may have a blob is not looked up again."""
BURST_BYTES = 8 * MAX_PIECE_BYTES
_BYTES_PER_KILOBIT = 125
_LOOK_S = 0.5


class PartGiver:
    """Answers questions, one after the other, in a thread of its own."""

    def __init__(self, services: Services, tell: Callable[[DeviceId, bytes], None]) -> None:
        """`tell` sends a piece; it may raise LinkError."""
        self._services, self._tell = services, tell
        self._rate = float(services.settings.mqtt_parts_kbps * _BYTES_PER_KILOBIT)
        self._inbox: Inbox = queue.Queue(DEPTH)
        self._buckets: OrderedDict[DeviceId, ByteBucket] = OrderedDict()
        self._leave: OrderedDict[tuple[DeviceId, Digest], float] = OrderedDict()

    def put(self, arrival: Arrival) -> None:
        """Take a question, unless too many wait; never waits itself."""
        try:
            self._inbox.put_nowait(arrival)
        except queue.Full:
            log.warning("too many wait for pieces", extra={"device": arrival.device})

    def run(self, stopping: threading.Event) -> None:
        """Answer until `stopping`."""
        while not stopping.is_set():
            for arrival in intake.take(self._inbox, most=GROUP, wait_s=_LOOK_S):
                self.handle(arrival)

    def handle(self, arrival: Arrival) -> None:
        """Answer one question; one that cannot be read or answered now is dropped."""
        try:
            wanted = _read(arrival)
            self._tell(arrival.device, self.answer(arrival.device, wanted))
        except (InvalidError, LinkError, OperationalError) as error:
            log.warning("piece not given", extra={"device": arrival.device, "why": str(error)})

    def answer(self, device: DeviceId, wanted: PartWanted) -> bytes:
        """Return a piece, or why there is none."""
        try:
            _require_sane(wanted)
            if (wait_s := self._wait_s(device, wanted.length)) > 0:
                return blobpieces.encode(Head(wanted.id, wait_s=round(wait_s, 3)))
            return self._piece(device, wanted)
        except PackhorseError as error:
            log.warning("no piece", extra={"device": device, "why": str(error)})
            return blobpieces.encode(Head(wanted.id, error=str(error), retryable=error.retryable))

    def _wait_s(self, device: DeviceId, count: int) -> float:
        """Return 0 and count the bytes, or how long the device has to wait for them."""
        now = self._services.clock.monotonic()
        before = self._buckets.pop(device, None)
        before = before or bytebucket.full(self._rate, BURST_BYTES, now)
        bucket, wait_s = bytebucket.take(before, count, now)
        if wait_s > 0:
            bucket = bytebucket.give_back(bucket, count)
        _remember(self._buckets, device, bucket)
        return wait_s

    def _piece(self, device: DeviceId, wanted: PartWanted) -> bytes:
        self._require_leave(device, wanted.blob)
        found = self._encoded(wanted)
        if wanted.table:
            data = found.table_bytes[wanted.start : wanted.start + wanted.length]
            return blobpieces.encode(Head(wanted.id, total=len(found.table_bytes)), data)
        total = found.table.encoded_size
        stop = min(wanted.start + wanted.length, total)
        data = b""
        if wanted.start < stop:
            data = b"".join(self._services.store.read(found.key, wanted.start, stop))
        return blobpieces.encode(Head(wanted.id, total=total), data)

    def _encoded(self, wanted: PartWanted) -> EncodedBlob:
        """Return what is asked for; LinkError if another offer helps."""
        recipe = Recipe(wanted.blob, wanted.encoding, wanted.base)
        if recipe.encoding == encodings.ZSTD and recipe.base is None:
            found: EncodedBlob | None = self._services.encodings.get(recipe)
        else:
            found = self._services.encodings.ready(recipe)
        if found is None:
            raise LinkError(f"blob {wanted.blob} as {wanted.encoding} is not kept: ask anew")
        return found

    def _require_leave(self, device: DeviceId, blob: Digest) -> None:
        """Raise LinkError unless the device's desired state names this blob."""
        now = self._services.clock.monotonic()
        if self._leave.get((device, blob), now) > now:
            return
        with self._services.reading() as session:
            wish = desired.read(session, device)
            bundles = candidates.bundles(wish.modules if wish else ())
            query = (
                select(tables.BundleBlob.blob)
                .where(col(tables.BundleBlob.bundle).in_(bundles))
                .where(tables.BundleBlob.blob == blob)
            )
            named = session.exec(query).first() is not None
        if not named:
            raise LinkError(f"blob {blob} is not part of what {device} shall run")
        _remember(self._leave, (device, blob), now + LEAVE_S)


def _read(arrival: Arrival) -> PartWanted:
    wanted = messages.decode(PartWanted, arrival.message.payload)
    if len(wanted.id) > MAX_ID_CHARACTERS:
        raise InvalidError("id", wanted.id, f"use at most {MAX_ID_CHARACTERS} characters")
    return wanted


def _remember(known: OrderedDict, key: object, value: object) -> None:  # type: ignore[type-arg] # of either kind
    known[key] = value
    known.move_to_end(key)
    if len(known) > REMEMBERED:
        known.popitem(last=False)


def _require_sane(wanted: PartWanted) -> None:
    digests.parse(wanted.blob, "blob")
    if wanted.base is not None:
        digests.parse(wanted.base, "base")
    if wanted.encoding not in encodings.KNOWN:
        known = ", ".join(encodings.KNOWN)
        raise InvalidError("encoding", wanted.encoding, f"ask for one of {known}")
    if wanted.start < 0:
        raise InvalidError("start", wanted.start, "give 0 or more")
    if not 0 < wanted.length <= MAX_PIECE_BYTES:
        raise InvalidError("length", wanted.length, f"give 1 to {MAX_PIECE_BYTES}")
