"""`packhorse serve`: everything of the registry in one process, and the broker as its child.

    main thread   waits for a signal, or for the unexpected end of any other thread
    http          uvicorn with the API
    ingest, presence, responder, publisher   see cloud.messaging.wire
    deltas        makes encodings before devices ask: see cloud.deltas.maker
    gc            deletes blobs that nothing refers to: see cloud.storage.collect
    turn          says whether what follows is this registry's to do: see cloud.turns
    webhooks      tells webhooks of events: see cloud.webhooks.sender
    rollouts      brings deployments to devices: see cloud.rollouts.engine
    services      takes care of services: see cloud.hosting.controller
    nats          watches the embedded broker

The process is whole or it ends: see cloud.crew. Killed at any moment, it goes on at the next start
from what is durable: database, blobs, certificates, and what the broker kept for it.
"""

import contextlib
import gc
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import uvicorn

from cloud import database, endpoints
from cloud.app import create_app
from cloud.backup import unfinished
from cloud.broker.nats import NatsBroker
from cloud.crew import Crew
from cloud.deltas.maker import Maker
from cloud.endpoints import Endpoints
from cloud.hosting.controller import Controller
from cloud.images.opening import open_maker
from cloud.messaging.wire import BrokerLogin, Wire
from cloud.registry import backfill, devices
from cloud.rollouts.engine import Engine
from cloud.services import BrokerAddress, Change, Services
from cloud.settings import Settings
from cloud.storage.blobs import Blobs
from cloud.storage.collect import Collector
from cloud.storage.encodings import EncodingStore
from cloud.storage.opening import open_store
from cloud.trust import keys
from cloud.trust.authority import Authority
from cloud.trust.presign import Presigner
from cloud.turns import Turn
from cloud.webhooks.sender import Sender
from cloud.webserver import WebServer
from runtime import datalock, logs
from runtime.clock import SystemClock
from runtime.digests import Digest
from runtime.messages import CommandResult
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

CONNECT_S = 10.0
"""How long the start waits for an external broker before it goes on without."""
STOP_S = 3.0
"""How long the threads may take to end, beside the drain of HTTP."""
_POLL_S = 0.02


def serve(settings: Settings) -> int:
    """Run the registry until SIGTERM or SIGINT; return the exit code.

    Raises PackhorseError if it cannot start.
    """
    logs.set_up(form=settings.log_format, level=settings.log_level)
    for chatty in ("alembic", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    with datalock.held(settings.data), contextlib.ExitStack() as opened:
        unfinished.require_none(settings.data)
        return _Registry(settings, opened).run()


@dataclass(frozen=True)
class _Broker:
    """The embedded broker, or None, and how to reach whichever it is."""

    child: NatsBroker | None
    login: BrokerLogin
    for_devices: BrokerAddress


class _Registry:
    """The running parts and their order."""

    def __init__(self, settings: Settings, opened: contextlib.ExitStack) -> None:
        """Open what is durable and take the addresses; `opened` closes them again."""
        self._settings = settings
        self._engine = database.open_engine(settings.url_of_database)
        opened.callback(self._engine.dispose)
        database.migrate(self._engine)
        self._authority = Authority.open(
            settings.authority_directory, names=endpoints.certificate_names(settings)
        )
        last = endpoints.remembered(settings.data)
        self._socket = endpoints.listen(
            settings.host, settings.port, last=last.http_port if last else 0
        )
        opened.callback(self._socket.close)
        self._url = endpoints.base_url(settings, self._socket.getsockname()[1])
        self._broker = self._place_broker(last.broker_port if last else 0)
        self._crew = Crew()
        self._crl = threading.Lock()
        self._services = self._make_services()
        self._services.notifier.subscribe(Change.DEVICES, self._devices_changed)
        # Without a public URL of its own, devices download from where they enrolled.
        base_url = settings.public_url or ""
        self._sender = Sender(self._services)
        place = f"{socket.gethostname()}-{os.getpid()}"
        self._rollouts = Engine(self._services, owner=f"{place}-{secrets.token_hex(4)}")
        self._maker = open_maker(self._services)
        opened.callback(self._maker.close)
        opened.callback(self._services.targets.close)
        self._controller = Controller(self._services, self._services.targets, self._maker)
        self._turn = Turn(self._engine)
        opened.callback(self._turn.part)
        self._wire = Wire(
            self._services, self._broker.login, self._crew, self._turn, base_url=base_url
        )
        self._http = WebServer(self._http_config())

    def run(self) -> int:
        """Start everything, wait, stop everything; return the exit code."""
        admin = keys.ensure_admin(
            self._engine, self._settings.secrets_directory, now=self._services.clock.now()
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._crew.ring())
        try:
            self._start()
            self._tell_ready(admin)
            culprit = self._crew.wait()
        finally:
            self._stop()
        if culprit is not None:
            log.critical("registry ends: a part of it failed", extra={"part": culprit})
        return 0 if culprit is None else 1

    def _start(self) -> None:
        backfill.run(self._services)
        gc.freeze()  # what is loaded by now stays: no need to look through it again and again
        gc.set_threshold(20_000)  # counting references leaves little else
        self._devices_changed_on_disk()
        if self._broker.child is not None:
            self._broker.child.start()
        self._wire.start()
        collector, interval_s = Collector(self._services), self._settings.gc_interval_s
        maker = Maker(self._services)
        self._crew.start("rollouts", lambda: self._rollouts.run(self._crew.stopping))
        self._crew.start("turn", lambda: self._turn.run(self._crew.stopping))
        self._in_turn("deltas", maker.run)
        self._in_turn("gc", lambda stopping: collector.every(interval_s, stopping))
        self._in_turn("services", self._controller.run)
        self._in_turn("webhooks", self._sender.run)
        self._crew.start("http", lambda: self._http.run(sockets=[self._socket]))
        deadline = time.monotonic() + CONNECT_S
        pause = threading.Event()
        while not (self._http.started and self._wire.connected) and time.monotonic() < deadline:
            pause.wait(_POLL_S)
        login = self._broker.login
        endpoints.remember(
            self._settings.data,
            Endpoints(
                url=self._url,
                broker_host=login.host,
                broker_port=login.port,
                pid=os.getpid(),
                http_port=self._socket.getsockname()[1],
            ),
        )

    def _in_turn(self, name: str, duty: Callable[[threading.Event], object]) -> None:
        """Start a duty that only one registry of a database may do."""
        self._crew.start(name, lambda: self._turn.then(duty, self._crew.stopping))

    def _stop(self) -> None:
        self._http.should_exit = True
        self._crew.stopping.set()
        self._sender.stop()
        self._rollouts.wake()
        self._controller.wake()
        self._wire.part()
        left = self._crew.stop(self._settings.drain_s + STOP_S)
        if left:
            log.error("threads still busy at the end", extra={"threads": left})
        if self._broker.child is not None:
            self._broker.child.stop()

    def _tell_ready(self, admin: str | None) -> None:
        login = self._broker.login
        lines = [
            f"Registry ready at {self._url}",
            f"MQTT broker at mqtts://{login.host}:{login.port}"
            + ("" if self._wire.connected else " (not reached yet; see the log)"),
        ]
        if admin is not None:
            lines.append(f"Admin key, shown only now: {admin}")
        lines.append(f"Log in with: packhorse login {self._url} --ca {self._authority.ca_file}")
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()

    def _place_broker(self, last_port: int) -> _Broker:
        settings, authority = self._settings, self._authority
        if settings.broker is None:
            port = settings.broker_port or endpoints.free_port(settings.host, last=last_port)
            host = endpoints.near(settings.host)
            child = NatsBroker(
                settings.data, authority, settings.host, port, devices=self._good_certificates
            )
        else:
            child = None
            host, port = endpoints.broker_of(settings.broker)
        login = BrokerLogin(
            host=host,
            port=port,
            ca_file=settings.broker_ca or authority.ca_file,
            cert_file=settings.broker_certificate or authority.registry_cert_file,
            key_file=settings.broker_key or authority.registry_key_file,
        )
        told = settings.broker_public_host or (None if settings.broker is None else host)
        return _Broker(child, login, BrokerAddress(told, port))

    def _make_services(self) -> Services:
        settings, clock = self._settings, SystemClock()
        store = open_store(settings)
        blobs = Blobs(store)
        return Services(
            settings=settings,
            engine=self._engine,
            store=store,
            blobs=blobs,
            encodings=EncodingStore(store, blobs),
            authority=self._authority,
            presigner=Presigner.open(
                settings.secrets_directory, ttl_s=settings.presign_ttl_s, clock=clock
            ),
            broker=self._broker.for_devices,
            clock=clock,
            stopping=self._crew.stopping,
            duties=self._health,
            ask_device=self._ask_device,
            builds=lambda: self._controller.builds,
        )

    def _http_config(self) -> uvicorn.Config:
        return uvicorn.Config(
            create_app(self._services),
            ssl_certfile=self._authority.server_cert_file,
            ssl_keyfile=str(self._authority.server_key_file),
            loop="uvloop",
            http="httptools",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(self._settings.drain_s),
        )

    def _ask_device(
        self,
        device: DeviceId,
        kind: str,
        module: str,
        bundle: Digest | None,
        timeout_s: float,
        *,
        options: Mapping[str, str],
    ) -> CommandResult:
        ask = self._wire.commander.ask
        return ask(device, kind, module, bundle, timeout_s, options=options)

    def _health(self) -> Mapping[str, bool]:
        child = self._broker.child
        found = {**self._crew.alive(), **self._wire.health()}
        return found if child is None else {**found, "broker": child.alive}

    def _good_certificates(self) -> dict[DeviceId, str]:
        with database.reading(self._engine) as session:
            return devices.certificates(session)

    def _devices_changed(self) -> None:
        """Make the broker let in who is enrolled now; return when it does."""
        self._devices_changed_on_disk()
        if self._broker.child is not None:
            self._broker.child.reload()

    def _devices_changed_on_disk(self) -> None:
        """Write the list of revoked certificates, which external brokers read."""
        with self._crl, database.reading(self._engine) as session:
            self._authority.revoke(devices.revoked_serials(session))
