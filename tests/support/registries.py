"""A registry without processes: real database, blobs, authority and HTTP application."""

import contextlib
import functools
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastapi.dependencies.models
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Engine, QueuePool
from starlette.testclient import TestClient

from cloud import database
from cloud.app import create_app
from cloud.services import BrokerAddress, Services
from cloud.settings import Settings
from cloud.storage.blobs import Blobs
from cloud.storage.encodings import EncodingStore
from cloud.storage.opening import open_store
from cloud.trust import keys
from cloud.trust.authority import Authority
from cloud.trust.presign import Presigner
from runtime import digests
from runtime.bundle import index
from runtime.bundle.index import FileEntry, Index, Signature, TensorSpec
from runtime.clock import Clock
from runtime.messages import CommandResult
from tests.support.brokers import csr, eventually

URL = "https://registry.test:8443"


@dataclass
class SetClock:
    """A clock that stands until it is set."""

    at: float = 1_800_000_000.0

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at


@dataclass(frozen=True)
class Stores:
    """Where a registry under test keeps its rows and blobs; made anew for each test."""

    name: str
    settings: Mapping[str, Any]
    """What `cloud.settings.Settings` are told, beside `data`."""

    @property
    def environment(self) -> dict[str, str]:
        """The same for a registry in a process of its own."""
        return {f"PACKHORSE_{name.upper()}": str(each) for name, each in self.settings.items()}


SQLITE = Stores("sqlite+directory", {})


def services(data: Path, *, clock: Clock, stores: Stores = SQLITE, **settings: Any) -> Services:
    """Return the registry's parts on this directory, migrated."""
    chosen = Settings(data=data, **stores.settings, **settings)
    if chosen.database_url is None and not (data / "registry.db").exists():
        lay_database(data)
    engine = database.open_engine(chosen.url_of_database)
    database.migrate(engine)
    store = open_store(chosen)
    blobs = Blobs(store)
    return Services(
        settings=chosen,
        engine=engine,
        store=store,
        blobs=blobs,
        encodings=EncodingStore(store, blobs),
        authority=Authority.open(chosen.authority_directory),
        presigner=Presigner.open(chosen.secrets_directory, ttl_s=chosen.presign_ttl_s, clock=clock),
        broker=BrokerAddress(None, 8883),
        clock=clock,
    )


def lay_database(data: Path) -> None:
    """Put an empty database of the newest version where a registry looks for it."""
    data.mkdir(parents=True, exist_ok=True)
    (data / "registry.db").touch(mode=0o600)
    (data / "registry.db").write_bytes(_migrated())


@functools.cache
def _migrated() -> bytes:
    """Return an empty SQLite database of the newest version, which takes 0.2 s to make."""
    with tempfile.TemporaryDirectory(prefix="packhorse-") as scratch:
        path = Path(scratch) / "registry.db"
        engine = database.open_engine(f"sqlite:///{path}")
        database.migrate(engine)
        engine.dispose()
        return path.read_bytes()


@dataclass
class Registry:
    """A registry that answers HTTP, with the admin's key in hand."""

    services: Services
    clock: SetClock
    key: str
    http: TestClient
    """Sends the key."""
    bare: TestClient
    """Sends none."""
    device_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )

    def token(self, **body: Any) -> str:
        """Make an enrolment token."""
        made: str = self.post("/api/v1/devices/tokens", body)["token"]
        return made

    def enrol(self, device: str, *, facts: dict[str, str] | None = None, **body: Any) -> Any:
        """Enrol a device by a new token; return the answer."""
        wish = {
            "token": self.token(**body),
            "csr": csr(self.device_key),
            "device_id": device,
            "facts": facts or {},
        }
        return checked(self.bare.post("/api/v1/enrol", json=wish), 201)

    def register(self, name: str, content: bytes, **said: Any) -> Any:
        """Register a bundle of one file, with what is said of it; return the answer."""
        made, blob = one_file_index(name, content)
        checked(self.http.put(f"/api/v1/blobs/{made.files[0].sha256}", content=blob), 200)
        encoded = index.encode(made)
        checked(self.http.put(f"/api/v1/blobs/{index.identity(made)}", content=encoded), 200)
        wish = {"bundle": index.identity(made), **said}
        answer = self.http.post(f"/api/v1/models/{name}/versions", json=wish)
        assert answer.status_code in {200, 201}, answer.text
        return answer.json()

    def get(self, path: str) -> Any:
        """GET what must be there."""
        return checked(self.http.get(path), 200)

    def answer_commands(self, answer: CommandResult) -> list[tuple[Any, ...]]:
        """Let every device answer every command so; return what they will have been asked."""
        asked: list[tuple[Any, ...]] = []

        def ask(*what: Any, options: Any) -> CommandResult:
            asked.append((*what, dict(options)))
            return answer

        object.__setattr__(self.services, "ask_device", ask)
        return asked

    def post(self, path: str, body: Any = None, status: int | None = None) -> Any:
        """POST what must be accepted."""
        answer = self.http.post(path, json=body)
        assert answer.status_code == status if status else answer.is_success, answer.text
        return answer.json()


def checked(answer: Any, status: int) -> Any:
    """Return the JSON of an answer that must have this status."""
    assert answer.status_code == status, answer.text
    return answer.json()


def one_file_index(name: str, content: bytes) -> tuple[Index, bytes]:
    """Return the index of a bundle with one file, which nobody will ever load, and that file."""
    digest = digests.of_bytes(content)
    tensor = TensorSpec("x", "FP32", (-1, 2))
    made = Index(
        format=1,
        name=name,
        kind="onnx",
        model="model.onnx",
        files=(FileEntry("model.onnx", len(content), digest),),
        signature=Signature((tensor,), (tensor,)),
    )
    return made, content


@contextlib.contextmanager
def running(data: Path, *, stores: Stores = SQLITE, **settings: Any) -> Iterator[Registry]:
    """Give a registry on this directory and these stores; closes it at the end."""
    clock = SetClock()
    parts = services(data, clock=clock, stores=stores, **settings)
    keys.ensure_admin(parts.engine, parts.settings.secrets_directory, now=clock.now())
    key = (parts.settings.secrets_directory / "admin.key").read_text().strip()
    app = create_app(parts)
    headers = {"Authorization": f"Bearer {key}"}
    try:
        with (
            TestClient(app, URL, headers=headers, raise_server_exceptions=False) as http,
            TestClient(app, URL, raise_server_exceptions=False) as bare,
        ):
            yield Registry(parts, clock, key, http, bare)
        # What is still out when the pool closes would be closed by the garbage collector, or never.
        eventually(lambda: out(parts.engine) == 0, "every connection of the database is given back")
    finally:
        parts.engine.dispose()
        _forget_apps()


def out(engine: Engine) -> int:
    """Return how many connections are in use."""
    assert isinstance(engine.pool, QueuePool)
    return engine.pool.checkedout()


def _forget_apps() -> None:
    """Empty FastAPI's caches: each holds every function of every app, and so the apps.

    Thousands of tests would take gigabytes, and collecting garbage minutes.
    """
    for cached in vars(fastapi.dependencies.models).values():
        if hasattr(cached, "cache_clear"):
            cached.cache_clear()


@contextlib.contextmanager
def listening(registry: Registry, *, port: int = 0) -> Iterator[str]:
    """Serve a registry over TLS, on any free port if none is named; give its URL."""
    authority = registry.services.authority
    config = uvicorn.Config(
        create_app(registry.services),
        ssl_certfile=authority.server_cert_file,
        ssl_keyfile=authority.server_key_file,
        log_level="warning",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", port)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"https://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
