"""The arrays of a bundle's check, compared with the model's signature before anything is stored.

Only headers are read, however large the arrays are.
"""

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from runtime.bundle.index import DataType, Signature, TensorSpec
from runtime.errors import InvalidError

MAX_ARRAYS = 1000
_SUFFIX = ".npy"

_DATATYPES: dict[str, DataType] = {
    "bool": "BOOL",
    "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip

# RuntimeError is zipfile's "needs a password", and the parent of NotImplementedError.
_BROKEN = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, RuntimeError, OSError)


def require_inputs(path: Path, signature: Signature) -> None:
    """Raise InvalidError unless a .npz holds just what the model takes."""
    _require(path, "check.inputs", signature.inputs, all_of_them=True)


def require_outputs(path: Path, signature: Signature) -> None:
    """Raise InvalidError unless a .npz holds some or all of what the model gives."""
    _require(path, "check.outputs", signature.outputs, all_of_them=False)


def specs(path: Path, field: str) -> tuple[TensorSpec, ...]:
    """Return the tensors that a .npz shows: its arrays, with any size for their first dimension.

    Raises InvalidError if it is none, or holds a type that the protocol has not.
    """
    found = []
    for name, (dtype, shape) in headers(path, field).items():
        datatype = "BYTES" if dtype.kind in "SU" else _DATATYPES.get(dtype.name)
        if datatype is None:
            raise InvalidError(f"{field}[{name}]", dtype.name, f"use {', '.join(_DATATYPES)}")
        any_batch = (-1, *shape[1:]) if shape else ()
        found.append(TensorSpec(name=name, datatype=datatype, shape=any_batch))
    return tuple(found)


def headers(path: Path, field: str) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """Return type and shape of each array in a .npz; raise InvalidError if it is none."""
    fix = "write it with numpy.savez(path, name=array, …)"
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if not 0 < len(members) <= MAX_ARRAYS:
                raise InvalidError(field, f"{path.name}: {len(members)} arrays", fix)
            return {
                member.filename.removesuffix(_SUFFIX): _header(archive, member, field)
                for member in members
            }
    except _BROKEN as error:
        raise InvalidError(field, f"{path.name}: {error}", fix) from error


def _header(
    archive: zipfile.ZipFile, member: zipfile.ZipInfo, field: str
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read(file)
    if dtype.hasobject:
        raise InvalidError(
            field, f"{member.filename}: pickled objects", "save text as an array of dtype 'U'"
        )
    return dtype, shape


def _require(path: Path, field: str, specs: tuple[TensorSpec, ...], *, all_of_them: bool) -> None:
    arrays = headers(path, field)
    known = {spec.name: spec for spec in specs}
    names = ", ".join(known)
    for name in arrays:
        if name not in known:
            raise InvalidError(field, f"{path.name}: {name}", f"the model has {names}")
    for name, spec in known.items():
        if name in arrays:
            _require_fit(f"{field}[{name}]", spec, *arrays[name])
        elif all_of_them:
            raise InvalidError(field, f"{path.name}: no {name}", f"the model needs {names}")


def _require_fit(
    field: str, spec: TensorSpec, dtype: np.dtype[Any], shape: tuple[int, ...]
) -> None:
    got = "BYTES" if dtype.kind in "SU" else _DATATYPES.get(dtype.name, dtype.name)
    if got != spec.datatype:
        raise InvalidError(field, got, f"the model has {spec.datatype} here")
    fits = len(shape) == len(spec.shape) and all(
        wanted in (-1, size) for size, wanted in zip(shape, spec.shape, strict=True)
    )
    if not fits:
        wanted = ["any" if size < 0 else str(size) for size in spec.shape]
        raise InvalidError(field, shape, f"the model has shape ({', '.join(wanted)}) here")
