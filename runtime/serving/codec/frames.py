"""What a server and its codec process say to one another.

One message each way per job, msgpack in a packet of a Unix socket; the bytes and arrays themselves
lie in a file in memory (memfd) that the server hands over with its message:

    read    [body]                → [body ... | array | array …]     each at a page of its own start
    write   [array | array …]     → [arrays … | body]

So neither side copies, and what a job takes is gone with its descriptors.
"""

from typing import Literal

import msgspec

from runtime.bundle.index import DataType, TensorSpec

MAX_PACKET_BYTES = 128 * 1024
ALIGNMENT = 64


class Placed(msgspec.Struct, frozen=True, array_like=True):
    """An array in the file."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    start: int
    size: int
    """In bytes. Of BYTES: of a msgpack list of its values."""


class ReadJob(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Read a request's JSON: the first `length` bytes of the file."""

    number: int
    length: int
    specs: tuple[TensorSpec, ...]


class WriteJob(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Write an answer's JSON behind these arrays, at the next multiple of a page."""

    number: int
    model: str
    version: str
    request: str | None
    outputs: tuple[Placed, ...]


class Read(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """What a request asks."""

    number: int
    inputs: tuple[Placed, ...]
    request: str | None
    wanted: list[str] | None
    binary: bool | dict[str, bool]
    timeout_s: float | None


class Written(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Where the answer's JSON lies."""

    number: int
    start: int
    size: int


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Why a job was not done."""

    number: int
    kind: Literal["invalid", "model", "memory"]
    field: str
    shown: str
    """The value of an InvalidError as its message shows it; of others the whole message."""
    fix: str = ""


Job = ReadJob | WriteJob
Done = Read | Written | Refused


def page_after(size: int, page: int) -> int:
    """Return the first multiple of a page at or behind this size."""
    return -(-size // page) * page
