"""Bodies while they come.

Small ones are bytes. Large ones of a known length are read by the loop straight into the place
where they are used, so that a tensor of megabytes is not copied on its way to the model.
"""

from typing import Protocol

import numpy as np

LARGE_BYTES = 32 * 1024
FIRST_BYTES = 1 << 20
"""Of a place that grows with what comes: a length that is only claimed costs no memory."""
ALIGNMENT = 64


class Body(Protocol):
    """A place for a large body."""

    @property
    def view(self) -> memoryview:
        """What has come of it."""
        ...

    def room(self) -> memoryview:
        """Return where the next bytes shall go; never empty before all are there."""
        ...

    def filled(self, count: int) -> None:
        """Say that so many bytes were put there."""
        ...


class HeapBody:
    """A body in ordinary memory.

    With the byte `aligned` it begins at an address that every data type may have.
    """

    def __init__(self, length: int, *, aligned: int = 0) -> None:
        self._length, self._aligned = length, aligned
        self._got = 0
        self._place = self._make(min(length, FIRST_BYTES))

    @property
    def view(self) -> memoryview:
        """What has come of it."""
        return self._place[: self._got]

    def room(self) -> memoryview:
        """Return where the next bytes shall go."""
        if self._got == len(self._place) < self._length:
            larger = self._make(min(self._length, 4 * self._got))
            larger[: self._got] = self._place
            self._place = larger
        return self._place[self._got :]

    def filled(self, count: int) -> None:
        """Say that so many bytes were put there."""
        self._got += count

    def _make(self, size: int) -> memoryview:
        block = np.empty(size + ALIGNMENT, dtype=np.uint8)
        pad = -(block.ctypes.data + self._aligned) % ALIGNMENT
        return block.data[pad : pad + size]
