"""Files in memory that two processes see: made here, handed over by descriptor."""

import mmap
import os


class SharedBody:
    """A large body that lies where the codec's process will see it."""

    def __init__(self, length: int) -> None:
        """Make room; a page takes memory once something is put there."""
        self.fd = -1
        self.length = length
        self._got = 0
        self.fd = os.memfd_create("packhorse-body", os.MFD_CLOEXEC)
        os.ftruncate(self.fd, length)
        self._view = memoryview(mmap.mmap(self.fd, length))

    @property
    def view(self) -> memoryview:
        """What has come of it."""
        return self._view[: self._got]

    def room(self) -> memoryview:
        """Return where the next bytes shall go."""
        return self._view[self._got :]

    def filled(self, count: int) -> None:
        """Say that so many bytes were put there."""
        self._got += count

    def __del__(self) -> None:
        """Let go of the file; whoever maps it still has it."""
        if self.fd >= 0:
            os.close(self.fd)


def mapped(fd: int, start: int, stop: int) -> mmap.mmap:
    """Return a part of a file; it begins at a page. What is read of it is there at once."""
    flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)
    return mmap.mmap(fd, stop - start, flags=flags, offset=start)
