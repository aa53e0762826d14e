"""Blobs over MQTT alone, for devices that may open no other connection.

A part is asked for in pieces, a few of them at a time, so that a long round trip costs little. How
large a piece is follows from how long the last one took: what steers the device travels on the same
link, and shall never wait long behind pieces.
"""

import collections
import secrets
import time
from collections.abc import Callable, Generator

from edge_agent.bundles.ranges import ExpiredError
from edge_agent.bundles.roads import table_bytes
from edge_agent.bundles.valve import Valve
from edge_agent.partdesk import PartDesk, Question
from runtime import blobpieces
from runtime.blobpieces import MAX_PIECE_BYTES, PartWanted
from runtime.bundle import parts
from runtime.errors import InvalidError, LinkError
from runtime.messages import Offer

WINDOW = 4
ANSWER_S = 20.0
LEAST_BYTES, FIRST_BYTES = 4 * 1024, 32 * 1024
QUICK_S, SLOW_S = 1.0, 3.0
_LOOK_S = 0.2
_MOST_WAIT_S = 60.0


def next_size(size: int, took_s: float) -> int:
    """Return how large the next piece shall be after one of `size` took so long. Pure."""
    if took_s < QUICK_S:
        return min(MAX_PIECE_BYTES, size * 2)
    return max(LEAST_BYTES, size // 2) if took_s > SLOW_S else size


class MqttRoad:
    """Pieces by request; for one thread."""

    def __init__(
        self,
        desk: PartDesk,
        *,
        answer_s: float = ANSWER_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Give a piece up that does not come within `answer_s`."""
        self._desk, self._answer_s, self._clock = desk, answer_s, clock
        self._size = FIRST_BYTES

    def table(self, offer: Offer, valve: Valve) -> bytes:
        """Return the offer's part table, not yet checked."""
        table = bytearray()
        while True:
            size = valve.room(min(MAX_PIECE_BYTES, table_bytes(offer)))
            wanted = PartWanted(
                secrets.token_hex(8),
                offer.blob,
                offer.encoding,
                len(table),
                size,
                base=offer.base,
                table=True,
            )
            valve.wait(size)
            question = self._desk.ask(wanted)
            try:
                total, data = self._answer(question, valve)
            finally:
                self._desk.close(question)
            table += data
            if not data or total > parts.MAX_TABLE_BYTES:
                raise InvalidError("table", total, f"a table has 1 to {parts.MAX_TABLE_BYTES}")
            if len(table) >= total:
                return bytes(table)

    def read(
        self, offer: Offer, start: int, stop: int, valve: Valve
    ) -> Generator[bytes, None, None]:
        """Yield encoded bytes from `start`, in order."""
        window: collections.deque[Question] = collections.deque()
        try:
            while start < stop or window:
                while start < stop and len(window) < WINDOW:
                    under_way = sum(question.wanted.length for question in window)
                    size = valve.room(under_way + min(self._size, stop - start)) - under_way
                    if size <= 0:
                        break  # what is under way spends the rest of the budget
                    window.append(self._ask(offer, start, size, valve))
                    start += size
                total, data = self._answer(window[0], valve)
                question = window.popleft()
                if total != offer.encoded_size or len(data) != question.wanted.length:
                    raise LinkError(f"blob {offer.blob}: a piece of {len(data)} bytes came short")
                self._size = next_size(self._size, question.took_s)
                yield data
        finally:
            for question in window:
                self._desk.close(question)
                valve.lost(question.wanted.length)

    def _ask(self, offer: Offer, start: int, size: int, valve: Valve) -> Question:
        valve.wait(size)
        wanted = PartWanted(
            secrets.token_hex(8), offer.blob, offer.encoding, start, size, base=offer.base
        )
        return self._desk.ask(wanted)

    def _answer(self, question: Question, valve: Valve) -> tuple[int, bytes]:
        """Return the size of the whole and the piece, asked for again while it is too early."""
        wanted = question.wanted
        while True:
            head, data = self._wait(question, valve)
            if head.wait_s <= 0:
                break
            valve.patience.pause(min(head.wait_s, _MOST_WAIT_S))
            self._desk.again(question)
        self._desk.close(question)
        if head.error and not head.retryable:
            raise InvalidError("part", wanted.blob, head.error)
        if head.error:
            raise ExpiredError(f"blob {wanted.blob}: {head.error}")
        valve.count(len(data), waited_for=wanted.length)
        return head.total, data

    def _wait(self, question: Question, valve: Valve) -> tuple[blobpieces.Head, bytes]:
        until = self._clock() + self._answer_s
        while (answer := question.wait(_LOOK_S)) is None:
            valve.patience.require_leave()
            if self._clock() >= until:
                raise LinkError(
                    f"blob {question.wanted.blob}: no piece came over MQTT in {self._answer_s:g} s"
                )
        return answer
