"""Where arrays lie in a NumPy file (.npy) or in a zip whose members are stored as they are.

.npz files are such, and the checkpoints of PyTorch; compressed members stay plain bytes.
"""

import io
import tokenize
import zipfile
import zlib

import numpy as np

from runtime.bundle.delta import detect
from runtime.bundle.delta.plan import ElementType, TensorExtent

MAX_MEMBERS = 20_000
MAX_HEADER_BYTES = 10_000
"""numpy's own limit for headers that it is to parse."""
TYPES = {
    "f2": ElementType.FP16, "f4": ElementType.FP32, "f8": ElementType.FP64,
    "i1": ElementType.INT8, "u1": ElementType.INT8, "i2": ElementType.INT16,
    "u2": ElementType.INT16, "i4": ElementType.INT32, "u4": ElementType.INT32,
    "i8": ElementType.INT64, "u8": ElementType.INT64, "c8": ElementType.FP32,
    "c16": ElementType.FP64, "b1": ElementType.BYTES,
}  # fmt: skip

_NPY, _ZIP = b"\x93NUMPY", b"PK\x03\x04"
_LOCAL_HEADER_BYTES = 30
_BROKEN_ZIP = (
    zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError, OSError, OverflowError,
)  # fmt: skip
_BROKEN_NPY = (ValueError, EOFError, SyntaxError, tokenize.TokenError, TypeError, RecursionError)


def read(data: memoryview) -> tuple[TensorExtent, ...] | None:
    """Return where arrays lie, in the order of places; None if this is neither kind of file.

    A storage of PyTorch says nothing of itself: it counts if its bytes look like numbers.
    """
    if bytes(data[: len(_NPY)]) == _NPY:
        found = _array("", data, 0, len(data))
        return None if found is None else (found,)
    if bytes(data[: len(_ZIP)]) == _ZIP:
        return _members(data)
    return None


def _members(data: memoryview) -> tuple[TensorExtent, ...] | None:
    try:
        with zipfile.ZipFile(_Buffer(data)) as archive:
            members = archive.infolist()
    except _BROKEN_ZIP:
        return None
    if len(members) > MAX_MEMBERS:
        return None
    found: list[TensorExtent] = []
    behind = 0
    for member in sorted(members, key=lambda member: member.header_offset):
        extent = _member(member, data)
        if extent is not None and extent.offset >= behind:
            found.append(extent)
            behind = extent.offset + extent.length
    return tuple(found)


def _member(member: zipfile.ZipInfo, data: memoryview) -> TensorExtent | None:
    """Return where the array of a stored member lies."""
    at = member.header_offset
    header = bytes(data[max(at, 0) : at + _LOCAL_HEADER_BYTES])
    if member.compress_type != zipfile.ZIP_STORED or header[: len(_ZIP)] != _ZIP:
        return None
    start = at + _LOCAL_HEADER_BYTES
    start += int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    end = start + member.file_size
    if at < 0 or member.file_size <= 0 or end > len(data):
        return None
    name = member.filename
    if name.endswith(".npy"):
        return _array(name, data, start, end)
    kind = detect.element_type(np.frombuffer(data[start:end], np.uint8))
    if kind is ElementType.BYTES or (end - start) % kind.width:
        return None
    return TensorExtent(name, kind, ((end - start) // kind.width,), start, end - start)


def _array(name: str, data: memoryview, start: int, end: int) -> TensorExtent | None:
    """Return where the elements of a .npy lie, whose header begins at `start`."""
    file = io.BytesIO(bytes(data[start : min(end, start + MAX_HEADER_BYTES)]))
    try:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(file)
    except _BROKEN_NPY:
        return None
    kind = TYPES.get(dtype.str.lstrip("<|="))
    begin = start + file.tell()
    length = end - begin
    if kind is None or any(size < 0 for size in shape) or length <= 0 or length % kind.width:
        return None
    if int(np.prod(shape, dtype=object)) * kind.width != length:
        shape = (length // kind.width,)
    return TensorExtent(name, kind, tuple(shape), begin, length)


class _Buffer(io.RawIOBase):
    """A buffer as a file, without a copy of it."""

    def __init__(self, data: memoryview) -> None:
        super().__init__()
        self._data, self._at = data, 0

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go somewhere."""
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: len(self._data)}[whence]
        if origin + offset < 0:
            raise ValueError("before the beginning")
        self._at = origin + offset
        return self._at

    def tell(self) -> int:
        """Return where we are."""
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return up to so many bytes; all that is left if negative."""
        end = len(self._data) if size is None or size < 0 else self._at + size
        found = bytes(self._data[self._at : end])
        self._at += len(found)
        return found
