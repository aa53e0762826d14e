"""The gateway as the process that it is, real replicas as others, and a client that fails nothing.

with gateways.world(tmp_path) as world:
    world.gateway.configure(world.revision("r1", weight=100, replicas=2))
    world.gateway.start()
"""

import contextlib
import http.client
import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec

from runtime import files
from runtime.gateway.config import Config, Revision, Status, decode, encode
from tests.support.brokers import HOST, free_port
from tests.support.commands import Command, eventually

BACKEND = Path(__file__).with_name("backend_process.py")


class Backend(Command):
    """A replica."""

    def __init__(self, place: Path, name: str, *, grpc: bool = False) -> None:
        """Choose ports; they stay the same when it is started again."""
        self.name, self.port = name, free_port()
        self.grpc_port = free_port() if grpc else 0
        super().__init__("python", [], place / f"{name}.log")
        self._argv = [sys.executable, str(BACKEND), name, str(self.port), str(self.grpc_port)]

    @property
    def address(self) -> str:
        """HOST:PORT of its HTTP."""
        return f"{HOST}:{self.port}"

    @property
    def grpc_address(self) -> str:
        """HOST:PORT of its gRPC."""
        return f"{HOST}:{self.grpc_port}"

    def start(self) -> "Backend":
        """Start it (again), and wait until it answers."""
        self.begin()
        self.await_ready()
        return self

    def begin(self) -> "Backend":
        """Start it (again)."""
        self.log.unlink(missing_ok=True)
        self.spawn()
        return self

    def await_ready(self) -> None:
        """Wait until it answers."""
        eventually(lambda: "ready" in self.tail() or not self.runs, f"{self.name} is ready")
        assert self.runs, self.tail()

    def seen(self) -> dict[str, Any]:
        """Return what it says of its requests."""
        return dict(get(self.port, "/v2/models/stats")[1])


class GatewayProcess(Command):
    """`packhorse-runtime gateway`."""

    def __init__(self, place: Path, *arguments: str, name: str = "gateway") -> None:
        """Keep its files below `place`. Its config is not there before `configure`."""
        self.port, self.admin_port = free_port(), free_port()
        self.config, self.status_file = place / "gateway.json", place / f"{name}-status.json"
        self.generation = 0
        """Of the newest configuration."""
        self._place, self._name, self._arguments = place, name, arguments
        super().__init__("packhorse-runtime", self._options(), place / f"{name}.log")

    def _options(self) -> list[str]:
        options = ["gateway", "--config", str(self.config), "--http-port", str(self.port)]
        options += ["--admin-port", str(self.admin_port), "--drain-s", "0.3"]
        options += ["--status-file", str(self.status_file), *self._arguments]
        return options

    def take_port_of(self, other: "GatewayProcess") -> None:
        """Use the same port for clients."""
        self.port = other.port
        super().__init__("packhorse-runtime", self._options(), self.log)

    def configure(self, *revisions: Revision, **fields: Any) -> int:
        """Replace the configuration; return its generation. Anonymous if nothing else is said."""
        self.generation += 1
        given = {"anonymous": True, "timeout_s": 20.0, **fields}
        config = Config("demo", self.generation, revisions=revisions, **given)
        # What the gateway would refuse is a mistake of the test.
        files.write_atomic(self.config, encode(decode(encode(config))))
        return self.generation

    def apply(self, *revisions: Revision, **fields: Any) -> None:
        """Replace the configuration, and wait until it is in force."""
        generation = self.configure(*revisions, **fields)
        eventually(lambda: self.status().generation == generation, f"generation {generation}")

    def start(self) -> None:
        """Start it, and wait until it takes requests."""
        self.log.unlink(missing_ok=True)
        self.spawn()
        eventually(lambda: "Gateway at" in self.tail() or not self.runs, "the gateway is ready")
        assert self.runs, self.tail()

    def await_healthy(self, count: int) -> None:
        """Wait until it knows this many replicas that answer."""
        eventually(
            lambda: sum(map(len, self.status().healthy.values())) == count,
            f"{count} healthy replicas: {self.tail()}",
        )

    def status(self) -> Status:
        """Return what it says of itself."""
        found = get_bytes(self.admin_port, "/-/status")[1]
        return msgspec.json.decode(found, type=Status)

    def written_status(self) -> Status:
        """Return the status file."""
        return msgspec.json.decode(self.status_file.read_bytes(), type=Status)

    def infer(
        self, model: str = "echo", body: bytes = b"{}", headers: dict[str, str] | None = None
    ) -> tuple[int, Any, http.client.HTTPMessage]:
        """Ask on a connection of its own; return status, JSON and headers."""
        connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", f"/v2/models/{model}/infer", body, headers or {})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read()), answer.headers


@contextlib.contextmanager
def asking(
    gateway: GatewayProcess, model: str, body: bytes = b"{}"
) -> Iterator["Future[tuple[int, Any]]"]:
    """Have a request in hand while the block runs; its status and JSON are there afterwards."""
    in_hand = b"packhorse_gateway_requests_in_hand 1.0"
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(lambda: gateway.infer(model, body)[:2])
        eventually(lambda: in_hand in get_bytes(gateway.admin_port, "/metrics")[1], "it is in hand")
        yield asked


@contextlib.contextmanager
def running(*commands: Command) -> Iterator[None]:
    """End these in the end."""
    try:
        yield
    finally:
        for command in commands:
            command.kill()


def revision(
    name: str, weight: int, replicas: Sequence[Backend] = (), *, others: Sequence[str] = ()
) -> Revision:
    """Return a revision at these replicas, and at `others`."""
    return Revision(
        name,
        weight,
        backends=(*(replica.address for replica in replicas), *others),
        grpc_backends=tuple(replica.grpc_address for replica in replicas if replica.grpc_port),
    )


def get(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """GET something; return status and JSON."""
    status, body = get_bytes(port, path, headers)
    return status, json.loads(body)


def get_bytes(port: int, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """GET something; return status and bytes."""
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    with contextlib.closing(connection):
        connection.request("GET", path, headers=headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
