"""The real console commands as processes: a registry, its broker, and agents.

    with processes.scratch() as place, processes.registry(place, "nats") as registry:
        agent = processes.Agent(place / "dev-a", registry, "dev-a", labels={"site": "lab"})
        agent.enrol()
        agent.start()

All of them end when the test's process ends. Ports are chosen once, so a restart is found again.
"""

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil

from cloud import shapes
from cloud.client import Client
from cloud.endpoints import Endpoints
from cloud.trust.authority import Authority
from runtime import unixsockets
from runtime.bundle import build
from tests.support import brokers, registries
from tests.support.brokers import HOST, MosquittoRig
from tests.support.commands import PATIENCE_S, Command, eventually, scratch

__all__ = ["Agent", "Answer", "Command", "Registry", "Traffic", "eventually", "scratch"]

READY_S = 180.0
"""For a registry: it imports much, and other work may fill the machine."""

AGENT_SETTINGS = {
    "PACKHORSE_AGENT_HEARTBEAT_S": "5.0",
    "PACKHORSE_AGENT_FLUSH_S": "0.2",
    "PACKHORSE_AGENT_RECONNECT_MOST_S": "2.0",
}
"""As a device in a hurry; tests put others on top."""


class Registry(Command):
    """`packhorse serve`, with the embedded broker or beside a Mosquitto that it owns."""

    def __init__(self, data: Path, kind: str = "nats", *, beside: "Registry | None" = None) -> None:
        """Keep everything below `data`; `kind` of broker is "nats" or "mosquitto".

        One beside another registry uses the Mosquitto that the other owns.
        """
        self.data, self.kind, self.port = data, kind, brokers.free_port()
        self.mosquitto: MosquittoRig | None = None
        self.door: int | None = None
        """The port of what stands before it, for those that shall go through that."""
        arguments = ["serve", "--data", str(data), "--host", HOST, "--port", str(self.port)]
        if beside is not None:
            assert beside.mosquitto is not None, "a broker that both can have"
            arguments += ["--broker", f"mqtts://{HOST}:{beside.mosquitto.port}"]
        elif kind == "nats":
            arguments += ["--broker-port", str(brokers.free_port())]
        else:
            data.mkdir(parents=True, exist_ok=True)
            authority = Authority.open(data / "authority", names=[HOST])
            self.mosquitto = MosquittoRig(data.parent, authority, [])
            arguments += ["--broker", f"mqtts://{HOST}:{self.mosquitto.port}"]
        super().__init__("packhorse", arguments, data.with_suffix(".log"))

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"https://{HOST}:{self.door or self.port}"

    @property
    def key(self) -> str:
        """The admin's key."""
        return (self.data / "secrets" / "admin.key").read_text("ascii").strip()

    @property
    def ca_pem(self) -> str:
        """The CA's certificate."""
        return (self.data / "authority" / "ca.pem").read_text("ascii")

    def client(self) -> Client:
        """Return an open client with the admin's key."""
        return Client(self.url, self.key, self.ca_pem)

    def start(self) -> None:
        """Start it (again) and wait until it is ready."""
        if not self.data.exists() and "PACKHORSE_DATABASE_URL" not in self.environment:
            registries.lay_database(self.data)
        if self.mosquitto is not None and not self._mosquitto_runs():
            self.mosquitto.start()
        self.spawn()
        self.await_ready()

    def await_ready(self) -> None:
        """Wait until it has said where it is."""
        eventually(lambda: self._ready() or not self.runs, "the registry is ready", READY_S)
        assert self.runs, f"the registry ended: {self.tail()}"

    def kill_broker(self) -> None:
        """Kill -9 the broker. NATS is started again by the registry, Mosquitto by us."""
        if self.mosquitto is not None:
            self.mosquitto.restart()
            return
        for process in self.descendants("nats-server"):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def stop_all(self) -> None:
        """End it and its broker."""
        self.stop()
        if self.mosquitto is not None:
            self.mosquitto.stop()

    def _mosquitto_runs(self) -> bool:
        return self.mosquitto is not None and brokers.listens(self.mosquitto.port)

    def _ready(self) -> bool:
        try:
            text = (self.data / "run" / "endpoints.json").read_bytes()
        except FileNotFoundError:
            return False
        return msgspec.json.decode(text, type=Endpoints).pid == self.pid


@contextlib.contextmanager
def registry(
    place: Path, kind: str = "nats", *, environment: Mapping[str, str] | None = None
) -> Iterator[Registry]:
    """Run a registry below `place`; `environment` are further PACKHORSE_* variables."""
    made = Registry(place / "registry", kind)
    made.environment.update(environment or {})
    try:
        made.start()
        yield made
    finally:
        made.stop_all()


@dataclass(frozen=True)
class Answer:
    """What an inference request got."""

    status: int
    body: Any

    @property
    def version(self) -> str:
        """The version that answered."""
        version: str = self.body["model_version"]
        return version

    def output(self) -> list[float]:
        """The values of the first output."""
        data: list[float] = self.body["outputs"][0]["data"]
        return data


class Agent(Command):
    """`packhorse-agent run` of one device."""

    def __init__(
        self,
        data: Path,
        registry: Registry,
        name: str,
        *,
        labels: Mapping[str, str] | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """Keep the device's state below `data`; `settings` are PACKHORSE_AGENT_* variables."""
        super().__init__("packhorse-agent", ["run", "--data", str(data)], data.with_suffix(".log"))
        self.data, self.name, self.registry = data, name, registry
        self.labels = dict(labels or {})
        self.environment = {**AGENT_SETTINGS, **(settings or {})}

    def enrol(self) -> None:
        """Get a token and become a device of the registry."""
        with self.registry.client() as client:
            token = client.make_token(shapes.NewToken(labels=self.labels)).token
        enrolment = Command("packhorse-agent", ["enrol"], self.log)
        enrolment.environment = {**self.environment, "PACKHORSE_AGENT_TOKEN": token}
        enrolment.run("--data", str(self.data), "--url", self.registry.url, "--id", self.name)

    def start(self) -> None:
        """Start it (again); returns at once."""
        self.spawn()

    def workers(self) -> list[psutil.Process]:
        """Return its model workers."""
        return self.descendants("edge_agent.worker")

    def infer(
        self,
        module: str,
        values: Sequence[float],
        *,
        request: str | None = None,
        timeout_s: float = 10.0,
    ) -> Answer:
        """Ask a module over its Unix socket; raises OSError or HTTPException if nobody answers."""
        body: dict[str, Any] = {
            "inputs": [
                {"name": "x", "datatype": "FP32", "shape": [1, len(values)], "data": list(values)}
            ]
        }
        if request is not None:
            body["id"] = request
        status, answer = self.call(module, f"/v2/models/{module}/infer", body, timeout_s=timeout_s)
        return Answer(status, answer)

    def call(
        self, module: str, path: str, body: Any = None, *, timeout_s: float = 10.0
    ) -> tuple[int, Any]:
        """Send one HTTP request to a module; return status and JSON."""
        connection = unixsockets.HTTPConnection(
            self.data / "run" / f"{module}.sock", timeout_s=timeout_s
        )
        try:
            connection.request(
                "GET" if body is None else "POST",
                path,
                body=None if body is None else json.dumps(body).encode(),
                headers={"Content-Type": "application/json"},
            )
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def answers(self, module: str, version: int) -> bool:
        """Whether this version of the module answers inference now."""
        try:
            answer = self.infer(module, [1.0, 2.0, 3.0, 4.0])
        except (OSError, http.client.HTTPException):
            return False
        return answer.status == http.HTTPStatus.OK and answer.version == str(version)

    def await_answer(self, module: str, version: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait until this version answers."""
        brokers.eventually(
            lambda: self.answers(module, version) or not self.runs,
            f"{self.name} answers with {module}:{version}: {self.tail()}",
            timeout_s,
        )
        assert self.runs, f"the agent ended: {self.tail()}"


class Traffic:
    """Asks a device without a pause, each time with another id; notes who answered and how late."""

    def __init__(self, agent: Agent, module: str, *, pause_s: float = 0.0) -> None:
        """Nothing is sent before `start`."""
        self._agent, self._module, self._pause_s = agent, module, pause_s
        self.answered: dict[str, str] = {}
        """Version by request id."""
        self.failures: list[str] = []
        """Requests that got no answer, or not 200, and why."""
        self.longest_s = 0.0
        """The longest time without an answer."""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self._count = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the request under way."""
        self._stopping.set()
        self._thread.join(PATIENCE_S)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._stopping.is_set():
            self._count += 1
            name = f"req-{self._count}"
            try:
                answer = self._agent.infer(self._module, [1.0, 2.0, 3.0, 4.0], request=name)
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(f"{name}: {error!r}")
                self._stopping.wait(0.02)
                continue
            if answer.status != http.HTTPStatus.OK:
                self.failures.append(f"{name}: {answer.status} {answer.body}")
                self._stopping.wait(0.02)
                continue
            now = time.monotonic()
            self.longest_s, last = max(self.longest_s, now - last), now
            self.answered[name] = answer.version
            if self._pause_s:
                self._stopping.wait(self._pause_s)


def push(client: Client, directory: Path) -> int:
    """Register the bundle in a directory, as `packhorse models push` does; return its version."""
    built = build.build(directory)
    for digest, path in built.files.items():
        if not client.has_blob(digest):
            client.put_blob(digest, path)
    return client.register(built.index.name, built.index_bytes).version


def stored(client: Client, **query: Any) -> list[shapes.Record]:
    """Return all records in the registry, in order of arrival."""
    found: list[shapes.Record] = []
    cursor: int | None = 0
    while cursor is not None:
        page = client.records(cursor=cursor, limit=1000, **query)
        found += page.items
        cursor = None if page.next is None else int(page.next)
    return found
