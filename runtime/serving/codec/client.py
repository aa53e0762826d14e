"""The codec as the server sees it: one process, started when it is first needed.

It has one job in hand at a time; others wait here. So if it dies, that is one job's doing: it is
tried once more in a new process, and fails if that dies too. The others never notice.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, TypeVar

import msgspec

from runtime.errors import InvalidError, ModelError
from runtime.inference.tensors import Arrays
from runtime.serving.codec import places
from runtime.serving.codec.frames import (
    MAX_PACKET_BYTES,
    Done,
    Job,
    Read,
    ReadJob,
    Refused,
    WriteJob,
    Written,
    page_after,
)
from runtime.serving.codec.places import SharedBody, mapped
from runtime.serving.errors import CodecError
from runtime.serving.rest.questions import Question
from runtime.serving.served import Served
from runtime.serving.wire.bodies import Body

if TYPE_CHECKING:
    from runtime.serving.codec.forking import Forked, Started

log = logging.getLogger(__name__)

ATTEMPTS = 2
_DECODER = msgspec.msgpack.Decoder(Done)
_Done = TypeVar("_Done", Read, Written)


class _Shown:
    """A value that was shown elsewhere."""

    def __init__(self, shown: str) -> None:
        self._shown = shown

    def __repr__(self) -> str:
        return self._shown


class CodecClient:
    """Reads and writes large JSON in a process of its own. Belongs to one event loop."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._child: subprocess.Popen[bytes] | Forked | None = None
        self._socket: socket.socket | None = None
        self._number = 0
        self._waiting: asyncio.Future[Done] | None = None
        self._expected = 0
        """The number of the job in hand. Answers to others come from jobs that nobody waits for."""

    @property
    def pid(self) -> int | None:
        """The process's number, if there is one."""
        return None if self._child is None else self._child.pid

    def adopt(self, started: "Started") -> None:
        """Take a process that was started before the event loop."""
        self._child = started.child
        self._hear(started.control)

    async def start(self) -> None:
        """Start the process now, so that nobody has to wait for it."""
        async with self._turn:
            if self._child is None:
                await self._start()

    async def read(self, body: bytes | Body, served: Served) -> Question:
        """Return what a request asks; raise as questions.read does, or CodecError."""
        shared = body if isinstance(body, SharedBody) else _shared(body)
        specs = served.signature.inputs
        done = await self._do(Read, ReadJob(self._next(), shared.length, specs), shared.fd)
        asked = Question({}, done.request)
        asked.wanted, asked.binary, asked.timeout_s = done.wanted, done.binary, done.timeout_s
        if done.inputs:
            start = page_after(shared.length, places.PAGE)
            stop = max(each.start + each.size for each in done.inputs)
            asked.inputs = places.taken(mapped(shared.fd, start, stop), done.inputs, start)
        return asked

    async def write(self, served: Served, asked: Question, outputs: Arrays) -> memoryview:
        """Return an answer's JSON; raise as replies.body_of does, or CodecError."""
        fd = os.memfd_create("packhorse-answer", os.MFD_CLOEXEC)
        try:
            placed = places.place(fd, 0, outputs)
            job = WriteJob(self._next(), served.name, served.version, asked.id, placed)
            done = await self._do(Written, job, fd)
            return memoryview(mapped(fd, done.start, done.start + done.size))
        finally:
            os.close(fd)

    async def close(self) -> None:
        """End the process."""
        async with self._turn:
            self._drop()

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _do(self, wanted: type[_Done], job: Job, fd: int) -> _Done:
        packet = msgspec.msgpack.encode(job)
        if len(packet) > MAX_PACKET_BYTES:
            raise InvalidError("outputs", "so many names", "use fewer or shorter")
        async with self._turn:
            for _ in range(ATTEMPTS):
                done = await self._attempt(job.number, packet, fd)
                if done is not None:
                    break
            else:
                raise CodecError(
                    "the process that reads and writes large JSON ended: its log says why"
                )
        if isinstance(done, Refused):
            raise _raised(done)
        assert isinstance(done, wanted)
        return done

    async def _attempt(self, number: int, packet: bytes, fd: int) -> Done | None:
        """Return what became of a job; None: the process ended."""
        if self._socket is None:
            await self._start()
        assert self._socket is not None
        self._waiting, self._expected = asyncio.get_running_loop().create_future(), number
        try:
            socket.send_fds(self._socket, [packet], [fd])
            return await self._waiting
        except (OSError, EOFError):
            self._drop()
            return None
        finally:
            self._waiting = None

    async def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                self._child = await asyncio.to_thread(_spawn, theirs)
            except OSError as error:
                ours.close()
                raise CodecError(f"the process for large JSON does not start: {error}") from error
        self._hear(ours)
        log.info("codec started", extra={"pid": self._child.pid})

    def _hear(self, ours: socket.socket) -> None:
        ours.setblocking(False)
        self._socket = ours
        asyncio.get_running_loop().add_reader(ours.fileno(), self._readable)

    def _readable(self) -> None:
        assert self._socket is not None
        waiting = self._waiting
        try:
            packet = self._socket.recv(MAX_PACKET_BYTES)
        except BlockingIOError:
            return
        except OSError:
            packet = b""
        if packet:
            done = _DECODER.decode(packet)
            if waiting is not None and not waiting.done() and done.number == self._expected:
                waiting.set_result(done)
        elif waiting is not None and not waiting.done():
            waiting.set_exception(EOFError())
        else:
            self._drop()

    def _drop(self) -> None:
        """Let go of the process, which ends when it sees that."""
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self._child is not None:
            self._child.kill()
            code = self._child.wait()
            log.info("codec ended", extra={"pid": self._child.pid, "code": code})
            self._child = None


def _spawn(theirs: socket.socket) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "runtime.serving.codec", str(theirs.fileno())],
        pass_fds=(theirs.fileno(),),
        stdin=subprocess.DEVNULL,
    )


def _shared(body: bytes | Body) -> SharedBody:
    data = body if isinstance(body, bytes) else body.view
    shared = SharedBody(len(data))
    shared.room()[:] = data
    shared.filled(len(data))
    return shared


def _raised(refused: Refused) -> Exception:
    if refused.kind == "invalid":
        return InvalidError(refused.field, _Shown(refused.shown), refused.fix)
    return ModelError(refused.shown) if refused.kind == "model" else MemoryError(refused.shown)
