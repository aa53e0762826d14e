"""What the codec's process does with a job, its file given by descriptor."""

import mmap
import os
from collections.abc import Sequence

import msgspec
import numpy as np

from runtime.errors import InvalidError, ModelError
from runtime.inference.tensors import DTYPES, Arrays, datatype_of
from runtime.serving.codec.frames import (
    ALIGNMENT,
    Done,
    Job,
    Placed,
    Read,
    ReadJob,
    Refused,
    WriteJob,
    Written,
    page_after,
)
from runtime.serving.codec.reading import Reader
from runtime.serving.rest import replies
from runtime.serving.rest.messages import InferResponse

PAGE = mmap.ALLOCATIONGRANULARITY


def do(job: Job, fd: int, reader: Reader) -> Done:
    """Do a job; what it is refused for is its result."""
    try:
        return _read(job, fd, reader) if isinstance(job, ReadJob) else _write(job, fd)
    except InvalidError as error:
        shown = str(error).removeprefix(f"{error.field}: ")
        shown = shown.removesuffix(f" is not accepted: {error.fix}")
        return Refused(job.number, "invalid", error.field, shown, error.fix)
    except ModelError as error:
        return Refused(job.number, "model", "", str(error))
    except MemoryError:
        return Refused(job.number, "memory", "", "out of memory: send less")


def place(fd: int, start: int, arrays: Arrays) -> tuple[Placed, ...]:
    """Put arrays into a file from `start` on, a page's begin, and return where they are."""
    packed = {name: _bytes(name, array) for name, array in arrays.items()}
    told: list[Placed] = []
    at = start
    for name, data in packed.items():
        array = arrays[name]
        told.append(Placed(name, datatype_of(name, array), array.shape, at, len(data)))
        at = page_after(at + len(data), ALIGNMENT)
    if at > start:
        os.ftruncate(fd, at)
        with mmap.mmap(fd, at - start, offset=start) as file:
            for each, data in zip(told, packed.values(), strict=True):
                file[each.start - start : each.start - start + each.size] = data
    return tuple(told)


def taken(part: mmap.mmap, placed: Sequence[Placed], start: int) -> Arrays:
    """Return arrays that lie in a part of a file which begins at `start`: numbers as views."""
    arrays: Arrays = {}
    for each in placed:
        at = each.start - start
        dtype = DTYPES[each.datatype]
        if dtype.kind != "O":
            arrays[each.name] = np.ndarray(each.shape, dtype, part, at)
            continue
        values = msgspec.msgpack.decode(part[at : at + each.size])
        texts = np.empty(len(values), dtype)
        texts[:] = values
        arrays[each.name] = texts.reshape(each.shape)
    return arrays


def _read(job: ReadJob, fd: int, reader: Reader) -> Read:
    with mmap.mmap(fd, job.length) as file:
        body = file[:]
    asked = reader.read(body, {spec.name: spec for spec in job.specs})
    del body
    inputs = place(fd, page_after(job.length, PAGE), asked.inputs)
    return Read(job.number, inputs, asked.id, asked.wanted, asked.binary, asked.timeout_s)


def _write(job: WriteJob, fd: int) -> Written:
    size = os.fstat(fd).st_size
    outputs = taken(mmap.mmap(fd, size), job.outputs, 0)
    told = [replies.tensor(name, array) for name, array in outputs.items()]
    body = msgspec.json.encode(InferResponse(job.model, job.version, told, job.request))
    start = page_after(size, PAGE)
    os.ftruncate(fd, start + len(body))
    with mmap.mmap(fd, len(body), offset=start) as file:
        file[:] = body
    return Written(job.number, start, len(body))


def _bytes(
    name: str, array: np.ndarray[tuple[int, ...], np.dtype[np.generic]]
) -> bytes | memoryview:
    if datatype_of(name, array) == "BYTES":
        return msgspec.msgpack.encode(array.ravel().tolist())
    return memoryview(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
