"""What the codec's process does with a job, its file given by descriptor."""

import mmap
import os

import msgspec

from runtime.errors import InvalidError, ModelError
from runtime.serving.codec.frames import (
    Done,
    Job,
    Read,
    ReadJob,
    Refused,
    WriteJob,
    Written,
    page_after,
)
from runtime.serving.codec.places import PAGE, place, taken
from runtime.serving.codec.reading import Reader
from runtime.serving.rest import replies
from runtime.serving.rest.messages import InferResponse


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


def _read(job: ReadJob, fd: int, reader: Reader) -> Read:
    with mmap.mmap(fd, 0) as file:
        body = file[: job.length]
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
