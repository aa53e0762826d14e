"""The worker process: one bundle, its server and its sources, under the agent's orders.

The event loop runs the server and listens to the agent, so that a Ping is answered whatever a model
does; loading, checking and stopping happen in a thread beside it, one at a time and in the order in
which they were asked for.
"""

import asyncio
import contextlib
import functools
import logging
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_agent.telemetry.spool import SpoolWriter
from edge_agent.worker import admission, engines, protocol, rank, sources
from edge_agent.worker.capture import Recorder
from edge_agent.worker.protocol import FromWorker, Start
from edge_agent.worker.pump import Pump
from edge_agent.worker.shadow import Shadow
from edge_agent.worker.sources import Item, Surroundings
from edge_agent.worker.understudy import Understudy
from runtime import errors
from runtime.bundle import index as bundle_index
from runtime.bundle import variants
from runtime.bundle.index import Index
from runtime.candidates import Counts
from runtime.clock import SystemClock
from runtime.inference import check
from runtime.inference.model import Model
from runtime.serving import measuring
from runtime.serving.codec.client import CodecClient
from runtime.serving.codec.places import SharedBody
from runtime.serving.dataplane import DataPlane
from runtime.serving.lane import Lane
from runtime.serving.rest.app import Rest
from runtime.serving.served import Origin
from runtime.serving.server import Server

log = logging.getLogger(__name__)

INDEX_FILE = ".index.json"
DRAIN_S = 5.0
"""How long requests in hand may take once the agent wants the worker to end."""
_DECODER = msgspec.msgpack.Decoder(protocol.AnyToWorker)


@dataclass(frozen=True)
class Loaded:
    """What is there once a bundle is loaded."""

    start: Start
    index: Index
    model: Model
    plane: DataPlane
    recorder: Recorder
    server: Server | Understudy
    codec: CodecClient
    shadow: Shadow


class Worker:
    """Obeys until it is told to stop, or until the agent is gone."""

    def __init__(self, control: socket.socket) -> None:
        """Speak over this socket."""
        self._control = control
        self._chores = Lane("chores")
        self._orders: asyncio.Queue[protocol.AnyToWorker] = asyncio.Queue()
        self._writer: asyncio.StreamWriter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._loaded: Loaded | None = None
        self._pumps: list[Pump] = []

    async def run(self) -> int:
        """Return the exit code once everything has ended: 0, or 1 if the bundle did not load."""
        self._loop = asyncio.get_running_loop()
        reader, self._writer = await asyncio.open_unix_connection(sock=self._control)
        listening = asyncio.ensure_future(self._listen(reader))
        obeying = asyncio.ensure_future(self._obey())
        # The agent's last word ends a load that hangs, too.
        await asyncio.wait((listening, obeying), return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            listening.result()
            if self._loaded is None:
                return 0
        code = await obeying
        listening.cancel()
        await self._end()
        return code

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        """Queue the agent's orders until Stop, or until it closes the socket."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(protocol.LENGTH_BYTES)
                length = int.from_bytes(head, "big")
                if length > protocol.MAX_FRAME_BYTES:
                    raise errors.InvalidError("frame", length, "the agent speaks another protocol")
                order = _DECODER.decode(await reader.readexactly(length))
                if isinstance(order, protocol.Ping):
                    self._say(protocol.Pong())
                    continue
                self._orders.put_nowait(order)
                if isinstance(order, protocol.Stop):
                    return
        log.info("the agent is gone: this worker ends")
        self._orders.put_nowait(protocol.Stop())

    async def _obey(self) -> int:
        while True:
            order = await self._orders.get()
            match order:
                case protocol.Start():
                    if not await self._start(order):
                        return 1
                case protocol.RunCheck():
                    await self._check()
                case protocol.Accept():
                    await self._require().server.accept()
                    self._say(protocol.Accepting())
                case protocol.Hold():
                    self._require().server.hold()
                    self._say(protocol.Held())
                case protocol.Mirror() | protocol.StopMirror():
                    self._require().shadow.obey(order)
                case protocol.StartSources():
                    await self._chores.call(functools.partial(self._start_sources, order))
                case protocol.StopSources():
                    await self._chores.call(self._stop_sources)
                    self._say(protocol.SourcesStopped())
                case _:
                    return 0

    async def _start(self, order: Start) -> bool:
        started = time.monotonic()
        try:
            self._loaded = await self._chores.call(functools.partial(self._load, order))
        except errors.PackhorseError as error:
            failed = protocol.Failed(type(error).__name__, _line(str(error)))
        except MemoryError:
            text = f"{order.model} does not fit into memory: raise resources.memory_mb"
            failed = protocol.Failed("MemoryError", text)
        except OSError as error:
            failed = protocol.Failed("OSError", _line(str(error)))
        else:
            seconds = time.monotonic() - started
            log.info("bundle loaded", extra={"bundle": order.bundle, "seconds": seconds})
            self._say(protocol.Loaded(seconds))
            return True
        log.error("bundle not loaded", extra={"bundle": order.bundle, "reason": failed.text})
        self._say(failed)
        return False

    async def _check(self) -> None:
        loaded = self._require()
        directory = Path(loaded.start.bundle_directory)
        run = functools.partial(check.run_check, loaded.model, directory, loaded.index)
        result = await self._chores.call(run)
        self._say(protocol.Checked(result.ok, _line(result.text), result.p95_ms))

    async def _end(self) -> None:
        """Finish what is in hand, and leave nothing that is not durable."""
        if self._loaded is not None:
            self._loaded.shadow.end()
            await self._chores.call(self._stop_pumps)
            await self._loaded.server.stop(DRAIN_S)
            await self._loaded.codec.close()
            await self._chores.call(self._loaded.recorder.close)
        if self._writer is not None:
            self._writer.close()
            with contextlib.suppress(ConnectionError):
                await self._writer.wait_closed()

    def _load(self, order: Start) -> Loaded:
        directory = Path(order.bundle_directory)
        whole = bundle_index.decode((directory / INDEX_FILE).read_bytes())
        index = variants.seen_by(whole, order.facts)
        admission.admit(directory, index, order.allow)
        rank.take(order.candidate, index.resources.memory_mb)
        with engines.prepared(order, directory, index, self._tell_warming) as place:
            model = Model.load(directory, index, engines=place)
            sample = measuring.sample(model.signature, directory, index)
            measured = measuring.measure(model, sample)
        recorder = Recorder(
            SpoolWriter(Path(order.spool_directory)), order, SystemClock(), self._tell_spooled
        )
        shadow = Shadow(order.module, recorder, SystemClock(), self._tell_counted)
        plane = DataPlane(on_prediction=shadow.saw, clock=SystemClock())
        plane.add(order.module, str(order.version), model, measured)
        listeners = [socket.socket(fileno=fd) for fd in order.listener_fds]
        codec = CodecClient()
        rest = Rest(plane, codec=codec, place=SharedBody)
        shadow.attach(plane, rest.infer)
        server: Server | Understudy = Server(rest, listeners)
        if order.candidate is not None:
            server = Understudy(model, order.bundle, listeners)
        return Loaded(order, index, model, plane, recorder, server, codec, shadow)

    def _start_sources(self, order: protocol.StartSources) -> None:
        self._stop_pumps()
        for uri in self._require().start.sources:
            pump = self._pump(uri)
            self._pumps.append(pump)
            pump.start(order.positions.get(uri))

    def _pump(self, uri: str) -> Pump:
        loaded = self._require()

        def open_source(pump: Pump) -> sources.Source:
            around = Surroundings(
                module=loaded.start.module,
                signature=loaded.model.signature,
                entry=loaded.model.entry,
                roots=tuple(Path(root) for root in loaded.start.source_roots),
                stopping=pump.stopping,
                tell=pump.tell,
                after_sync=loaded.recorder.after_sync,
            )
            return sources.open_source(uri, around)

        return Pump(
            uri,
            open_source=open_source,
            consume=functools.partial(self._consume, uri),
            tell=lambda text: self._say_soon(protocol.SourceTrouble(uri, _line(text))),
        )

    def _consume(self, uri: str, item: Item) -> None:
        """Predict and record one item; raise SpaceError if it could not be recorded."""
        loaded = self._require()
        origin = Origin(source=uri, item=item.name, position=item.position)
        if item.inputs is None:
            loaded.recorder.failed(origin, item.error)
            return
        try:
            loaded.plane.predict(loaded.start.module, item.inputs, origin)
        except errors.InvalidError as error:
            loaded.recorder.failed(origin, str(error))
        except errors.ModelError as error:
            log.debug("prediction failed", extra={"source": uri, "reason": str(error)})

    def _stop_sources(self) -> None:
        self._stop_pumps()
        with contextlib.suppress(OSError):  # it is logged, and tried again
            self._require().recorder.sync()

    def _stop_pumps(self) -> None:
        for pump in self._pumps:
            pump.stopping.set()
        for pump in self._pumps:
            pump.stop()
        self._pumps.clear()

    def _require(self) -> Loaded:
        if self._loaded is None:
            raise errors.InvalidError("order", "no Start yet", "the agent speaks another protocol")
        return self._loaded

    def _tell_warming(self, text: str) -> None:
        self._say_soon(protocol.Warming(text))

    def _tell_counted(self, counts: Counts) -> None:
        self._say_soon(protocol.Counted(counts))

    def _tell_spooled(self, dropped: int) -> None:
        self._say_soon(protocol.Spooled(dropped))

    def _say_soon(self, message: FromWorker) -> None:
        """Say something from any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._say, message)

    def _say(self, message: FromWorker) -> None:
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(protocol.encode(message))


def _line(text: str) -> str:
    return " ".join(text.split())
