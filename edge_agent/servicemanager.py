"""What a service manager is told of the agent, by systemd's protocol: one datagram for each word.

    READY=1      the models of before are being started, the registry is being looked for
    WATCHDOG=1   the owner's loop turns; if it stops, the service manager starts the agent anew
    STOPPING=1   it ends

Without NOTIFY_SOCKET in the environment nothing is said, and nothing wakes up for it.
"""

import contextlib
import os
import socket
import time
from collections.abc import Callable, Mapping

SOCKET, WATCHDOG, WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"
_PER_WATCH = 3
"""So often within its time is the watchdog fed."""


class Notifier:
    """Tells the service manager; to be used by the owner thread."""

    def __init__(
        self,
        address: str = "",
        watchdog_s: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`address` "": nobody listens; `watchdog_s` 0: nobody watches."""
        self._address = address
        self._every_s = watchdog_s / _PER_WATCH
        self._monotonic = monotonic
        self._fed_at = -float("inf")

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "Notifier":
        """Return one for what the environment says."""
        microseconds = environment.get(WATCHDOG, "")
        mine = environment.get(WATCHDOG_PID, str(os.getpid())) == str(os.getpid())
        watched = microseconds.isdecimal() and mine
        return cls(environment.get(SOCKET, ""), int(microseconds) / 1e6 if watched else 0.0)

    def within(self, wait_s: float | None) -> float | None:
        """Return how long the owner may sleep at most; None: until something happens."""
        if not self._address or not self._every_s:
            return wait_s
        return self._every_s if wait_s is None else min(wait_s, self._every_s)

    def ready(self) -> None:
        """The agent is up."""
        self._tell(b"READY=1")

    def alive(self) -> None:
        """The owner's loop has turned; told no oftener than needed."""
        now = self._monotonic()
        if self._every_s and now - self._fed_at >= self._every_s / 2:
            self._fed_at = now
            self._tell(b"WATCHDOG=1")

    def stopping(self) -> None:
        """The agent ends."""
        self._tell(b"STOPPING=1")

    def _tell(self, words: bytes) -> None:
        if not self._address:
            return
        # An abstract address begins with NUL, written as @.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        # The service manager is no reason for the agent to end.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as speaking,
        ):
            speaking.settimeout(1.0)
            speaking.sendto(words, address)
