"""Questions for pieces of blobs over MQTT, and who waits for which answer. Any thread may ask."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol, runtime_checkable

from runtime import blobpieces
from runtime.blobpieces import Head, PartWanted
from runtime.errors import InvalidError, LinkError

log = logging.getLogger(__name__)


class Question:
    """One piece that was asked for."""

    def __init__(self, wanted: PartWanted, asked_at: float) -> None:
        self.wanted, self.asked_at = wanted, asked_at
        self.took_s = 0.0
        """How long the answer took."""
        self._answered = threading.Event()
        self._answer: tuple[Head, bytes] | None = None

    @property
    def answered(self) -> bool:
        """Whether the answer is here."""
        return self._answered.is_set()

    def take(self, answer: tuple[Head, bytes], at: float) -> None:
        """Have whoever waits see the answer."""
        self._answer, self.took_s = answer, at - self.asked_at
        self._answered.set()

    def forget(self, at: float) -> None:
        """Wait for another answer."""
        self._answered.clear()
        self._answer, self.asked_at = None, at

    def wait(self, timeout_s: float) -> tuple[Head, bytes] | None:
        """Return the answer; None: it is not here yet."""
        self._answered.wait(timeout_s)
        return self._answer


class PartDesk:
    """Sends questions, and hands out the answers."""

    def __init__(
        self, send: Callable[[PartWanted], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`send` publishes a question without waiting, or raises LinkError."""
        self._send, self._clock = send, clock
        self._open: dict[str, Question] = {}

    def ask(self, wanted: PartWanted) -> Question:
        """Ask for a piece; raise LinkError if nobody hears it. `close` the question at the end."""
        question = self._open[wanted.id] = Question(wanted, self._clock())
        try:
            self._send(wanted)
        except LinkError:
            self.close(question)
            raise
        return question

    def again(self, question: Question) -> None:
        """Ask the same once more; raise LinkError if nobody hears it."""
        question.forget(self._clock())
        self._send(question.wanted)

    def close(self, question: Question) -> None:
        """Wait for this one no longer."""
        self._open.pop(question.wanted.id, None)

    def given(self, payload: bytes) -> None:
        """Hand an answer to whoever waits for it."""
        try:
            head, data = blobpieces.decode(payload)
        except InvalidError as error:
            log.warning("piece ignored", extra={"reason": str(error)})
            return
        if (question := self._open.get(head.id)) is not None:
            question.take((head, data), self._clock())


@runtime_checkable
class CarriesParts(Protocol):
    """An uplink by which parts of blobs can be asked for."""

    parts: PartDesk
