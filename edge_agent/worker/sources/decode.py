"""Files to model inputs: arrays (.npy, .npz), rows (.csv), images (.png, .jpg, .jpeg).

.npy    the model's one input; a missing batch dimension is added
.npz    arrays by input name
.csv    one record per row. A header that names the inputs of a model with several one-value
        inputs is matched by name (more columns are ignored); else the columns, in order, are
        the one input's values. The first row is a header unless each cell reads as a value; for
            text input it always is.
images  resized and converted to the one input's shape (N,C,H,W), (N,H,W,C), (N,H,W) or
        (N,H*W), with C of 1, 3 or 4; values 0 to 255, times `scale`
"""

import csv
import io
import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from runtime.bundle.index import Signature, TensorSpec
from runtime.errors import InvalidError
from runtime.inference import tensors
from runtime.inference.tensors import Array, Arrays

MAX_FILE_BYTES = 256 * 1024 * 1024
"""Of a file, and of what a .npz unfolds to."""
SUFFIXES = (".npy", ".npz", ".csv", ".png", ".jpg", ".jpeg")

_UNREADABLE = (
    OSError, ValueError, EOFError, SyntaxError, csv.Error, struct.error, zipfile.BadZipFile,
    zlib.error,
)  # fmt: skip
"""What numpy, csv and Pillow raise for a file that is not what its name says."""
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Channels to Pillow's name."""


@dataclass(frozen=True)
class Row:
    """One input in a file."""

    number: int | None
    """From 1; None: the file is the input."""
    inputs: Mapping[str, Any] | None
    error: str = ""
    """Why there are no inputs."""


def rows(name: str, file: BinaryIO, signature: Signature, scale: float) -> Iterator[Row]:
    """Yield the inputs in a file; raise InvalidError if the file cannot be read as its kind."""
    suffix = name[name.rfind(".") :].lower()
    if suffix not in SUFFIXES:
        raise InvalidError("file", name, f"use {', '.join(SUFFIXES)}")
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > MAX_FILE_BYTES:
        raise InvalidError("file", f"{size} bytes", f"a file has at most {MAX_FILE_BYTES}")
    try:
        match suffix:
            case ".npy":
                array = np.lib.format.read_array(file, allow_pickle=False)
                yield Row(None, {_single(signature).name: array})
            case ".npz":
                yield Row(None, _arrays(file))
            case ".csv":
                yield from _csv_rows(file, signature)
            case _:
                spec = _single(signature)
                yield Row(None, {spec.name: _image(file, spec, scale)})
    except InvalidError:
        raise
    except MemoryError as error:
        raise InvalidError("file", name, "it does not fit into memory") from error
    except _UNREADABLE as error:
        raise InvalidError("file", name, f"it cannot be read: {error}") from error


def _single(signature: Signature) -> TensorSpec:
    if len(signature.inputs) != 1:
        names = ", ".join(spec.name for spec in signature.inputs)
        raise InvalidError("file", "one array", f"the model takes {names}: use .npz or .csv")
    return signature.inputs[0]


def _arrays(file: BinaryIO) -> Arrays:
    with zipfile.ZipFile(file) as archive:
        unfolded = sum(member.file_size for member in archive.infolist())
    if unfolded > MAX_FILE_BYTES:
        raise InvalidError("file", f"{unfolded} bytes unfolded", f"at most {MAX_FILE_BYTES}")
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _csv_rows(file: BinaryIO, signature: Signature) -> Iterator[Row]:
    text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
    try:
        yield from _parsed_rows(csv.reader(text), signature)
    finally:
        text.detach()  # the file is its opener's to close


def _parsed_rows(lines: Iterator[list[str]], signature: Signature) -> Iterator[Row]:
    first = next(lines, None)
    if first is None:
        raise InvalidError("file", "", "it is empty")
    by_name = _by_name(signature, first)
    number = 0
    if by_name is None and not _is_header(signature.inputs[0], first):
        number += 1
        yield _csv_row(number, first, signature, by_name)
    for cells in lines:
        if cells:
            number += 1
            yield _csv_row(number, cells, signature, by_name)
    if not number:
        raise InvalidError("file", first, "it has a header and no rows")


def _by_name(signature: Signature, header: Sequence[str]) -> dict[str, int] | None:
    """Return the column of each input of a model with several; None for a model with one."""
    if len(signature.inputs) == 1:
        return None
    columns = {name.strip(): column for column, name in enumerate(header)}
    missing = [spec.name for spec in signature.inputs if spec.name not in columns]
    if missing:
        raise InvalidError("header", list(header), f"name the inputs {', '.join(missing)} too")
    return {spec.name: columns[spec.name] for spec in signature.inputs}


def _csv_row(
    number: int, cells: Sequence[str], signature: Signature, by_name: dict[str, int] | None
) -> Row:
    try:
        if by_name is None:
            spec = signature.inputs[0]
            return Row(number, {spec.name: _vector(spec, cells)})
        return Row(
            number,
            {spec.name: _vector(spec, [cells[by_name[spec.name]]]) for spec in signature.inputs},
        )
    except (InvalidError, ValueError, IndexError) as error:
        return Row(number, None, f"row {number}: {error}")


def _vector(spec: TensorSpec, cells: Sequence[str]) -> Array:
    """Return a row's cells as the input, a batch of one."""
    field = f"inputs[{spec.name}]"
    array = tensors.from_values(field, _values(spec, cells), spec.datatype)
    shape = [1 if at == 0 and size < 0 else size for at, size in enumerate(spec.shape)]
    if math.prod(max(size, 1) for size in shape) != len(cells) and -1 not in shape:
        raise InvalidError(field, f"{len(cells)} columns", f"the model takes {list(spec.shape)}")
    return array.reshape(shape)


def _values(spec: TensorSpec, cells: Sequence[str]) -> list[Any]:
    """Return a row's cells as values; raise ValueError or InvalidError if one is none."""
    match tensors.DTYPES[spec.datatype].kind:
        case "O":
            return list(cells)
        case "f":
            return [float(cell) if cell.strip() else math.nan for cell in cells]
        case "b":
            return [_truth(cell) for cell in cells]
        case _:
            return [int(cell) for cell in cells]


def _is_header(spec: TensorSpec, cells: Sequence[str]) -> bool:
    """Say whether a first row is a header; one of a model that takes text always is."""
    try:
        _values(spec, cells)
    except (InvalidError, ValueError):
        return True
    return spec.datatype == "BYTES"


def _truth(cell: str) -> bool:
    truths = {"1": True, "true": True, "0": False, "false": False}
    text = cell.strip().lower()
    if text not in truths:
        raise InvalidError("cell", cell, "use true, false, 1 or 0")
    return truths[text]


def _image(file: BinaryIO, spec: TensorSpec, scale: float) -> Array:
    # Pillow is needed by those who send images, and costs 10 MB.
    from PIL import Image  # noqa: PLC0415

    shape = _image_shape(spec)
    try:
        with Image.open(file, formats=("PNG", "JPEG")) as image:
            height = image.height if shape.height < 0 else shape.height
            width = image.width if shape.width < 0 else shape.width
            fitted = image.convert(MODES[shape.channels])
    except Image.DecompressionBombError as error:
        raise InvalidError("image", "its size", str(error)) from error
    if fitted.size != (width, height):
        fitted = fitted.resize((width, height), Image.Resampling.BILINEAR)
    pixels = np.asarray(fitted).reshape(height, width, shape.channels)
    if scale != 1:
        pixels = pixels * np.float32(scale)
    return shape.arrange(pixels).astype(tensors.DTYPES[spec.datatype])


@dataclass(frozen=True)
class _ImageShape:
    """How an input wants an image; -1: as the image is."""

    height: int
    width: int
    channels: int
    order: str
    """NCHW, NHWC, NHW or flat."""

    def arrange(self, pixels: Array) -> Array:
        """Return (height, width, channels) as a batch of one in the input's order."""
        match self.order:
            case "NCHW":
                return pixels.transpose(2, 0, 1)[np.newaxis]
            case "NHWC":
                return pixels[np.newaxis]
            case "NHW":
                return pixels[np.newaxis, :, :, 0]
            case _:
                return pixels.reshape(1, -1)


def _image_shape(spec: TensorSpec) -> _ImageShape:
    match spec.shape:
        case (_, channels, height, width) if channels in MODES:
            return _ImageShape(height, width, channels, "NCHW")
        case (_, height, width, channels) if channels in MODES:
            return _ImageShape(height, width, channels, "NHWC")
        case (_, height, width):
            return _ImageShape(height, width, 1, "NHW")
        case (_, size) if size > 0 and math.isqrt(size) ** 2 == size:
            side = math.isqrt(size)
            return _ImageShape(side, side, 1, "flat")
        case _:
            raise InvalidError(
                f"inputs[{spec.name}].shape", list(spec.shape), "this takes no image: use arrays"
            )
