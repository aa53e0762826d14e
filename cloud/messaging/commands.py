"""Asks a device to do something now, and waits for what came of it.

A command is not kept: a device that is away does not get it, and whoever asked is told so when the
time is over. The thread that waits is the caller's own; the answer comes in on the ingest link, in
pieces if it is large.
"""

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from cloud.errors import BusyError, WaitError
from cloud.messaging.intake import Arrival
from runtime import messages
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.messages import Command, CommandResult
from runtime.pieces import Assembly
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

MAX_WAITING = 16
"""Callers at once; each holds a thread."""


@dataclass
class _Question:
    device: DeviceId
    answered: threading.Event = field(default_factory=threading.Event)
    pieces: Assembly = field(default_factory=Assembly)
    result: CommandResult | None = None


class Commander:
    """Commands under way. `ask` may be called from any thread."""

    def __init__(self, publish: Callable[[DeviceId, Command], None]) -> None:
        """`publish` may raise LinkError."""
        self._publish = publish
        self._lock = threading.Lock()
        self._questions: dict[str, _Question] = {}

    def ask(
        self,
        device: DeviceId,
        kind: str,
        module: str,
        bundle: Digest | None,
        timeout_s: float,
        *,
        options: Mapping[str, str] | None = None,
    ) -> CommandResult:
        """Return what came of it.

        Raises WaitError if nothing came in time, BusyError if too many wait, LinkError if the
        broker is not reached.
        """
        command = Command(
            secrets.token_hex(16), kind, module, bundle, timeout_s, dict(options or {})
        )
        question = _Question(device)
        with self._lock:
            if len(self._questions) >= MAX_WAITING:
                raise BusyError(f"commands: {MAX_WAITING} wait already: try again later")
            self._questions[command.id] = question
        try:
            self._publish(device, command)
            question.answered.wait(timeout_s)
        finally:
            with self._lock:
                del self._questions[command.id]
        if question.result is None:
            raise WaitError(_silence(device, kind, question, timeout_s))
        return question.result

    def hear(self, arrival: Arrival) -> None:
        """Take a result; one that nobody waits for, or of another device, is dropped."""
        try:
            result = messages.decode(CommandResult, arrival.message.payload)
        except InvalidError as error:
            log.warning("no result", extra={"device": arrival.device, "why": str(error)})
            return
        with self._lock:
            question = self._questions.get(result.id)
        if question is not None and question.device == arrival.device:
            self._put_together(question, result)

    def _put_together(self, question: _Question, result: CommandResult) -> None:
        try:
            question.result = question.pieces.add(result)
        except InvalidError as error:
            log.warning("no result", extra={"device": question.device, "why": str(error)})
            return
        if question.result is not None:
            question.answered.set()


def _silence(device: DeviceId, kind: str, question: _Question, timeout_s: float) -> str:
    if question.pieces.begun:
        return (
            f"{device}: {question.pieces} of the answer to '{kind}' came within {timeout_s:g} s:"
            " ask again, for less or with more time"
        )
    return (
        f"{device}: no answer to '{kind}' within {timeout_s:g} s: see whether it is online"
        f" (packhorse devices show {device})"
    )
