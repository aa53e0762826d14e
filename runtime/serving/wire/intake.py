"""A request's body on its way in: wanted, or thrown away. Knows bytes, and no connection."""

import http
import math

from runtime.serving.wire.bodies import LARGE_BYTES, Body, HeapBody
from runtime.serving.wire.chunks import Chunks
from runtime.serving.wire.errors import RefusedError
from runtime.serving.wire.head import Head


class Intake:
    """A body that is wanted."""

    def __init__(self, head: Head, place: Body | None, *, most_bytes: int) -> None:
        """Put a body of known length into `place`; None: into memory."""
        self._length = math.inf if head.chunked else head.length
        self._most_bytes = most_bytes
        self.chunks = Chunks() if head.chunked else None
        self._pieces: list[bytes] = []
        self._place = place or HeapBody(0 if head.chunked else head.length)
        self.got = 0
        """Bytes of it that are here."""

    @property
    def whole(self) -> bool:
        """Say whether all of it is here."""
        return self.got == self._length if self.chunks is None else self.chunks.done

    @property
    def left(self) -> float:
        """How many bytes are still to come; infinity: nobody knows."""
        return self._length - self.got

    def take(self, ahead: bytearray) -> int:
        """Move what there is of the body from the front of `ahead`; return how many bytes.

        Raises RefusedError if it is malformed or becomes too large.
        """
        before = self.got
        if self.chunks is None:
            while ahead and self.left:
                room = self.room()
                count = min(len(room), len(ahead), int(self.left))
                with memoryview(ahead) as view:
                    room[:count] = view[:count]
                del ahead[:count]
                self.filled(count)
        else:
            known = len(self._pieces)
            self.chunks.feed(ahead, self._pieces)
            self.got += sum(map(len, self._pieces[known:]))
            if self.got > self._most_bytes:
                raise too_large(self._most_bytes)
        return self.got - before

    def room(self) -> memoryview:
        """Return where the next bytes of a body of known length shall be read to."""
        return self._place.room()

    def filled(self, count: int) -> None:
        """Say that so many bytes were read there."""
        self._place.filled(count)
        self.got += count

    def body(self) -> bytes | Body:
        """Return the whole body."""
        if self.chunks is not None:
            return b"".join(self._pieces)
        return self._place if self._length >= LARGE_BYTES else bytes(self._place.view)


class Leftover:
    """A body that is not wanted, or whatever a client still sends that was told to go."""

    def __init__(self, head: Head | None, begun: Intake | None, *, most_bytes: int) -> None:
        """Throw away what follows what has `begun`; without a head, all that comes."""
        self._left = math.inf
        self._chunks = None
        if head is not None and head.chunked:
            self._chunks = Chunks() if begun is None else begun.chunks
        elif head is not None:
            self._left = head.length - (0 if begun is None else begun.got)
        self._most_bytes = most_bytes

    def drop(self, ahead: bytearray) -> bool:
        """Throw away from the front of `ahead`; return whether that was the end.

        Raises RefusedError if it is malformed or does not end.
        """
        before = len(ahead)
        if self._chunks is not None:
            self._chunks.feed(ahead, [])
        else:
            del ahead[: int(min(before, self._left))]
        dropped = before - len(ahead)
        self._left -= dropped
        self._most_bytes -= dropped
        if self._most_bytes < 0:
            raise too_large(self._most_bytes)
        return self._chunks.done if self._chunks is not None else self._left <= 0


def too_large(most_bytes: int) -> RefusedError:
    """Return what a body of more than so many bytes is told."""
    return RefusedError(
        http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        f"the body is too large: send at most {most_bytes} bytes",
    )
