"""Reads the rest of a large body straight into its place: the kernel's copy is the only one."""

import asyncio
from typing import Protocol


class Taking(Protocol):
    """What the bytes are for; in all else it is the protocol of the transport."""

    def eof_received(self) -> None:
        """Take a client that sends no more for one that has gone."""
        ...

    def connection_lost(self, error: Exception | None, /) -> None:
        """Drop what the client asked for."""
        ...

    def pause_writing(self) -> None:
        """Stop answering a client that does not read."""
        ...

    def resume_writing(self) -> None:
        """Go on."""
        ...

    def room(self) -> memoryview:
        """Return where the loop shall read to."""
        ...

    def came(self, count: int) -> None:
        """Go on after the loop has read."""
        ...


class Direct(asyncio.BufferedProtocol):
    """The protocol of a transport as long as such a body comes."""

    def __init__(self, taking: Taking) -> None:
        self._taking = taking

    def get_buffer(self, _hint: int) -> memoryview:
        """Return where to read to."""
        return self._taking.room()

    def buffer_updated(self, count: int) -> None:
        """Say how much was read."""
        self._taking.came(count)

    def eof_received(self) -> None:
        """Pass it on."""
        self._taking.eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        """Pass it on."""
        self._taking.connection_lost(error)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._taking.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._taking.resume_writing()
