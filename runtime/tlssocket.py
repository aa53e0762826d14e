"""A TLS socket that sends many small packets as one record, and reads ahead.

paho sends each packet by itself: an acknowledgement of four bytes then costs as much as kilobytes.
And it reads each in four pieces, of which the first three are single bytes.
"""

import contextlib
import ssl
from typing import Any

MOST_HELD_BYTES = 64 * 1024
READ_BYTES = 16 * 1024
"""No record of TLS is longer."""


class GatheringSocket(ssl.SSLSocket):
    """Keeps what is sent until `flush`, once `gather` was called; for one thread."""

    _held: bytearray | None = None
    _ahead = b""
    """What was read, and asked for from `_at` on not yet."""
    _at = 0

    def gather(self) -> None:
        """Keep what is sent from now on."""
        self._held = bytearray()

    @property
    def holds(self) -> bool:
        """Whether something waits for `flush`."""
        return bool(self._held)

    def send(self, data: Any, flags: int = 0) -> int:
        """Keep the data, or send it; raise SSLWantWriteError if too much is kept already."""
        held = self._held
        if held is None:
            return super().send(data, flags)
        if len(held) >= MOST_HELD_BYTES:
            self.flush()
            if len(held) >= MOST_HELD_BYTES:
                raise ssl.SSLWantWriteError
        held += data
        return len(data)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Return what is there, at most so much; raise SSLWantReadError if there is nothing."""
        if not self._ahead:
            if self._held is None or buflen >= READ_BYTES:
                return super().recv(buflen, flags)
            self._ahead, self._at = super().recv(READ_BYTES, flags), 0
        data = self._ahead[self._at : self._at + buflen]
        self._at += len(data)
        if self._at >= len(self._ahead):
            self._ahead = b""
        return data

    def pending(self) -> int:
        """Return how much was read and not asked for yet."""
        if self._held is None:
            return super().pending()
        # What is read ahead is a whole record, so TLS itself holds none of it back.
        return len(self._ahead) - self._at if self._ahead else 0

    def flush(self) -> None:
        """Send what was kept, as far as the network takes it; raise OSError if it never will."""
        held = self._held
        while held:
            try:
                sent = super().send(held)
            except ssl.SSLWantWriteError:
                return
            del held[:sent]

    def close(self) -> None:
        """Send what was kept, if that needs no waiting, and close: a goodbye closes at once."""
        with contextlib.suppress(OSError):
            self.flush()
        self._held = None
        super().close()

    def do_handshake(self, block: bool = False) -> None:  # noqa: FBT001, FBT002 - as inherited
        """Close the socket if the handshake fails, which paho forgets to do."""
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def pending(sock: Any) -> bool:
    """Whether TLS has read more than it has given out."""
    return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0
