"""`packhorse-runtime serve`: everything wired together, from the first socket to the last answer.

    bind ► load ► accept ═══ serving ═══ SIGTERM ► not ready ► last answers ► stop ► exit 0
                                                   └─ still listening ─┘

Whoever sends the traffic sees `ready` turn 503 and goes elsewhere. Until then what comes is
answered, each time with `Connection: close`; once nothing is in hand, the listeners go too.
"""

import asyncio
import contextlib
import gc
import logging
import math
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

from runtime.errors import InvalidError, ModelError, PackhorseError
from runtime.serving import listeners
from runtime.serving.access import Logged
from runtime.serving.codec.client import CodecClient
from runtime.serving.codec.places import SharedBody
from runtime.serving.dataplane import DataPlane
from runtime.serving.library import Library
from runtime.serving.repository import Repository
from runtime.serving.rest.app import Rest
from runtime.serving.server import Server
from runtime.serving.settings import Settings
from runtime.serving.wire.app import App

if TYPE_CHECKING:
    from runtime.serving.capturefiles import CaptureFiles
    from runtime.serving.codec.forking import Started
    from runtime.serving.rpc.server import RpcServer

log = logging.getLogger(__name__)

LARGE_INPUT = 4096
"""Values of a model's input, from which its JSON will be large: then the codec is there from the
start, and otherwise from the first large JSON on."""
POLL_S = 0.05


async def serve(settings: Settings, started: "Started | None" = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code. Raises PackhorseError before that.

    `started` is a codec's process that is there already; it ends with us, or if it is not needed.
    """
    ending = _signals()
    async with contextlib.AsyncExitStack() as stack:
        codec = await stack.enter_async_context(_codec(started))
        sockets = [stack.enter_context(each) for each in _sockets(settings)]
        library = stack.enter_context(
            contextlib.closing(Library(settings.paths, settings.repository))
        )
        captured = _capture(settings)
        plane = DataPlane(
            on_prediction=captured.saw if captured else None, queue_limit=settings.queue
        )
        if captured is not None:
            stack.callback(captured.close)
            plane.meter.capture_dropped = lambda: captured.dropped
        stack.callback(plane.close)
        repository = Repository(plane, library, settings.allow)
        await _load(repository, library, settings)
        await _prepare(codec, plane)
        server = Server(
            _app(plane, repository, codec, library, settings), sockets, limits=settings.limits
        )
        # Whoever is told over HTTP that we are ready finds the other port open.
        rpc = await _rpc(plane, repository, settings)
        await server.accept()
        _settle()
        _announce(plane, sockets, rpc, settings)
        await ending.wait()
        await _drain(plane, server, rpc, settings)
    return 0


def _signals() -> asyncio.Event:
    """Return an event that the first signal sets; the second one ends the process."""
    ending = asyncio.Event()
    loop = asyncio.get_running_loop()

    def end(number: signal.Signals) -> None:
        log.info("told to end", extra={"signal": number.name})
        ending.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    return ending


def _sockets(settings: Settings) -> list[socket.socket]:
    made = []
    if settings.uds is not None:
        made.append(listeners.uds(settings.uds))
    if settings.http_port is not None:
        made.append(listeners.tcp(settings.host, settings.http_port, "--http-port"))
    return made


def _capture(settings: Settings) -> "CaptureFiles | None":
    if settings.capture is None:
        return None
    # Lazily: what writes columns and compresses them takes a while.
    from runtime.messages import Capture  # noqa: PLC0415
    from runtime.serving.capturefiles import CaptureFiles  # noqa: PLC0415

    try:
        return CaptureFiles(settings.capture, Capture(inputs=settings.capture_fraction))
    except OSError as error:
        fix = f"{error.strerror}: name a directory that you may write to"
        raise InvalidError("--capture", str(settings.capture), fix) from error


async def _load(repository: Repository, library: Library, settings: Settings) -> None:
    """Load what was named, or fail; of the repository what loads, and fail if nothing does."""
    named = {(item.name, item.version) for item in library.named}
    wanted = _wanted(library.versions(), all_versions=settings.all_versions)
    failure: PackhorseError | None = None
    loaded = 0
    for key in dict.fromkeys((*sorted(named), *wanted)):
        error = await _failure(repository, *key)
        if error is not None and key in named:
            raise error
        loaded += error is None
        failure = error or failure
    if failure is not None and not loaded:
        raise failure
    if not loaded and not settings.repository_api:
        fix = "put models there, as NAME/VERSION/model.onnx, or start with --repository-api"
        raise InvalidError("--repository", str(settings.repository), fix)


def _wanted(there: Sequence[tuple[str, str]], *, all_versions: bool) -> list[tuple[str, str]]:
    """Return what to load, each name's newest last: or the newest alone."""
    return list(there) if all_versions else list(dict(there).items())


async def _failure(repository: Repository, name: str, version: str) -> PackhorseError | None:
    """Load a version; return why that failed, or None."""
    try:
        await repository.load(name, version)
    except PackhorseError as error:
        return error
    except OSError as error:
        return ModelError(f"{name} version {version}: {error}")
    return None


@contextlib.asynccontextmanager
async def _codec(started: "Started | None") -> AsyncIterator[CodecClient]:
    codec = CodecClient()
    if started is not None:
        codec.adopt(started)
    try:
        yield codec
    finally:
        await codec.close()


async def _prepare(codec: CodecClient, plane: DataPlane) -> None:
    """Have the codec's process if there is a model whose JSON will be large, and only then."""
    sizes = (
        math.prod(max(size, 1) for size in spec.shape)
        for served in plane.served
        for spec in served.signature.inputs
    )
    if max(sizes, default=0) >= LARGE_INPUT:
        await codec.start()
    else:
        await codec.close()


def _settle() -> None:
    """Put what is there aside, since it stays, and collect garbage from now on."""
    gc.freeze()
    gc.enable()


def _app(
    plane: DataPlane,
    repository: Repository,
    codec: CodecClient,
    library: Library,
    settings: Settings,
) -> App:
    rest = Rest(
        plane,
        codec=codec,
        repository=repository if settings.repository_api else None,
        shelf=library,
        api_key=settings.api_key,
        max_body_bytes=settings.max_body_bytes,
        timeout_s=settings.timeout_s,
        place=SharedBody,
    )
    return Logged(rest, settings.access_log) if settings.access_log else rest


async def _rpc(plane: DataPlane, repository: Repository, settings: Settings) -> "RpcServer | None":
    if settings.grpc_port is None:
        return None
    # Lazily: grpc brings threads and 20 MB of its own.
    from runtime.serving.rpc import server as rpc  # noqa: PLC0415

    return await rpc.start(
        plane,
        host=settings.host,
        port=settings.grpc_port,
        api_key=settings.api_key,
        repository=repository if settings.repository_api else None,
        options=rpc.RpcOptions(
            max_message_bytes=settings.max_body_bytes,
            max_held_bytes=2 * settings.max_body_bytes,
            timeout_s=settings.timeout_s,
        ),
    )


def _announce(
    plane: DataPlane, sockets: Sequence[socket.socket], rpc: "RpcServer | None", settings: Settings
) -> None:
    models = ", ".join(f"{served.name}:{served.version}" for served in plane.served)
    places = [] if settings.uds is None else [f"unix:{settings.uds.absolute()}"]
    places += [listeners.url(each) for each in sockets if each.family != socket.AF_UNIX]
    if rpc is not None:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        places.append(f"grpc://{host}:{rpc.port}")
    sys.stdout.write(f"Serving {models or 'no model yet'} at {', '.join(places)}\n")
    sys.stdout.flush()
    log.info("serving", extra={"models": models, "at": ", ".join(places)})


async def _drain(
    plane: DataPlane, server: Server, rpc: "RpcServer | None", settings: Settings
) -> None:
    """Answer what is in hand, and what still comes from those who have not noticed."""
    now = asyncio.get_running_loop().time
    begun = now()
    plane.draining = True
    server.wind_down()
    while now() - begun < settings.drain_s:
        if now() - begun >= settings.drain_delay_s and not server.busy:
            break
        await asyncio.sleep(POLL_S)
    left = max(0.0, settings.drain_s - (now() - begun))
    await asyncio.gather(server.stop(left), *([rpc.drain(left)] if rpc else []))
    log.info("ended", extra={"seconds": round(now() - begun, 3)})
