"""The gateway as a process: everything wired together, from start to SIGTERM.

start ── configuration ── accept ── … ── SIGTERM ── drain_s ── last answers ── exit 0
                                           │ readiness 503, answers say Connection: close
"""

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.errors import InvalidError
from runtime.gateway.admin import Admin
from runtime.gateway.capture import Capturer
from runtime.gateway.config import Config, Status
from runtime.gateway.front import Front, listen
from runtime.gateway.http_replica import HttpCarrier
from runtime.gateway.mirror import Mirror
from runtime.gateway.proxy import Proxy
from runtime.gateway.reload import Reloader
from runtime.gateway.routes import Fleet, Routes
from runtime.gateway.stats import Stats
from runtime.gateway.statusfile import StatusFile
from runtime.gateway.tries import Purse

if TYPE_CHECKING:
    from runtime.gateway.rpc.replica import RpcCarrier
    from runtime.gateway.rpc.server import RpcFront

log = logging.getLogger(__name__)

LOOPBACK = ("127.0.0.1", "::1", "localhost")
GRACE_MOST_S = 30.0
"""For requests in hand after `drain_s`."""


@dataclass(frozen=True)
class Options:
    """What the command line says."""

    config: Path
    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int | None = None
    """None: no gRPC."""
    admin_host: str = "127.0.0.1"
    admin_port: int = 9090
    status_file: Path | None = None
    capture: Path | None = None
    """Where what is captured is kept; None: nothing is."""
    drain_s: float = 3.0
    reuse_port: bool = False


class Gateway:
    """One gateway; `run` is its life."""

    def __init__(self, options: Options) -> None:
        """Open the ports; nothing is accepted yet. Raises InvalidError naming a port in use."""
        self._options = options
        self._started_at = time.time()
        self.stats, self._purse, self._routes = Stats(), Purse(), Routes()
        self._http: Fleet[HttpCarrier] = Fleet(HttpCarrier, lambda: None)
        self.proxy = Proxy(self._routes, self._http, self.stats, self._purse)
        self._mirror = Mirror(self._http, self.stats)
        self._capturer = None if options.capture is None else Capturer(options.capture)
        self.proxy.taps += [tap.offer for tap in (self._mirror, self._capturer) if tap is not None]
        self._routes.on_apply(self._set_replicas)
        self._reloader = Reloader(options.config, self._routes.apply)
        self._stopping = asyncio.Event()
        self.front = Front(self.proxy, _open("http", options.host, options.http_port, options))
        self.admin = Front(
            Admin(self.status, lambda: self.ready, self._metrics),
            _open("admin", options.admin_host, options.admin_port, options),
        )
        self._rpc_fleet: Fleet[RpcCarrier] | None = None
        self.rpc: RpcFront | None = None
        if options.grpc_port is not None:
            self._open_rpc(options.grpc_port)

    def _open_rpc(self, port: int) -> None:
        from runtime.gateway.rpc.proxy import RpcProxy  # noqa: PLC0415 - few gateways need gRPC
        from runtime.gateway.rpc.replica import RpcCarrier  # noqa: PLC0415 - see above
        from runtime.gateway.rpc.server import RpcFront  # noqa: PLC0415 - see above

        fleet: Fleet[RpcCarrier] = Fleet(RpcCarrier, lambda: None)
        proxy = RpcProxy(self._routes, fleet, self.stats, self._purse, lambda: self.proxy.ready)
        self._rpc_fleet = fleet
        self.rpc = RpcFront(proxy, self._options.host, port, reuse_port=self._options.reuse_port)

    @property
    def ready(self) -> bool:
        """Whether it has a configuration and wants requests."""
        return self._routes.table is not None and not self._stopping.is_set()

    def status(self) -> Status:
        """Return what it says of itself."""
        table = self._routes.table
        names = [revision.name for revision in table.config.revisions] if table else []
        return Status(
            service=table.config.service if table else "",
            generation=table.config.generation if table else 0,
            started_at=self._started_at,
            trouble=self._reloader.trouble,
            revisions=tuple(self.stats.of(name).stats(name) for name in names),
            healthy=self._http.well(),
        )

    async def run(self, on_ready: Callable[[], None]) -> None:
        """Serve until SIGTERM or SIGINT, then end without failing a request.

        `on_ready` is called once connections are taken.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._reloader.again)
        self._reloader.look()
        tasks = [loop.create_task(self._reloader.run())]
        status_file = None
        if self._options.status_file is not None:
            status_file = StatusFile(self._options.status_file, self.status)
            tasks.append(loop.create_task(status_file.run()))
        await self.front.accept()
        await self.admin.accept()
        if self.rpc is not None:
            await self.rpc.accept()
        on_ready()
        await self._stopping.wait()
        await self._end()
        for task in tasks:
            task.cancel()
        if status_file is not None:
            await status_file.write()

    async def _end(self) -> None:
        log.info("draining", extra={"drain_s": self._options.drain_s})
        self.proxy.draining = True
        lasts = asyncio.get_running_loop().create_task(asyncio.sleep(self._options.drain_s))
        if self._options.reuse_port:
            await self.front.send_elsewhere()
        await lasts
        table = self._routes.table
        grace_s = min(GRACE_MOST_S, table.config.timeout_s if table else GRACE_MOST_S)
        await asyncio.gather(*(front.stop(grace_s) for front in (self.front, self.rpc) if front))
        await self.admin.stop(0.0)
        self._mirror.stop()
        if self._capturer is not None:
            self._capturer.stop()
        self._http.set({})
        if self._rpc_fleet is not None:
            self._rpc_fleet.set({})
        log.info("ended")

    def _set_replicas(self, config: Config) -> None:
        self._http.set({revision.name: revision.backends for revision in config.revisions})
        if self._rpc_fleet is not None:
            self._rpc_fleet.set({each.name: each.grpc_backends for each in config.revisions})
        if config.anonymous and self._options.host not in LOOPBACK:
            log.warning("everybody may ask, without a key", extra={"host": self._options.host})

    def _metrics(self) -> tuple[bytes, str]:
        from runtime.gateway import metrics  # noqa: PLC0415 - imported when first asked for

        return metrics.page(
            metrics.Sources(self.stats, self.status, lambda: self._purse.retries, self._drops)
        )

    def _drops(self) -> dict[str, int]:
        capture = {} if self._capturer is None else {"capture": self._capturer.dropped}
        return {"mirror": self._mirror.dropped, "mirror_failed": self._mirror.failed, **capture}


def _open(what: str, host: str, port: int, options: Options) -> socket.socket:
    try:
        return listen(host, port, reuse_port=options.reuse_port)
    except OSError as error:
        why = f"{error.strerror or error}: give another"
        raise InvalidError(f"{what} address", f"{host}:{port}", why) from error
