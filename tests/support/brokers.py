"""Real brokers on free ports.

    with brokers.nats(tmp_path, devices=["dev-a"]) as broker:
        inbox = links.Mailbox()
        with links.linked(broker.settings("dev-a"), inbox): ...

Both kinds know each device by a certificate of the same authority, and offer the same methods.
"""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cloud.broker import mosquitto as mosquitto_files
from cloud.broker.nats import NatsBroker
from cloud.trust import certificates
from cloud.trust.authority import Authority
from runtime import children, topics
from runtime.link import LinkSettings
from runtime.topics import DeviceId
from tests.support import parts

HOST = "127.0.0.1"
SHIPPED = Path(__file__).resolve().parents[2] / "deploy" / "mosquitto"
PATIENCE_S = 20.0
LOOK_S, LOOK_MOST_S, LOOK_SHARE = 0.02, 0.2, 0.04
"""Pause between two looks at what is waited for: a share of the time waited, within these."""
PORTS = range(10_000, 32_000)
WORKERS = 16
"""Test processes beside each other that share no port."""
_given = set[int]()


def _own_ports() -> range:
    """Return the ports that no other test process of this run takes."""
    number = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    each = len(PORTS) // WORKERS
    return PORTS[number % WORKERS * each :][:each]


def free_port() -> int:
    """Return a TCP port that nothing listens on now, and that no connection is given by chance.

    The system takes a client's own port, and port 0, from a range above these. Whoever asked
    before may not listen yet: none is given twice.
    """
    ports = _own_ports()
    if len(_given) > len(ports) // 2:
        _given.clear()
    while True:
        port = secrets.choice(ports)
        if port in _given:
            continue
        _given.add(port)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port


def eventually(holds: Callable[[], bool], what: str, timeout_s: float = PATIENCE_S) -> None:
    """Wait until something holds; fail naming `what` if it does not in time.

    Looks less often as time goes by: to look takes time from what is waited for.
    """
    began, tick = time.monotonic(), threading.Event()
    while not holds():
        waited = time.monotonic() - began
        assert waited < timeout_s, f"not in {timeout_s:g} s: {what}"
        tick.wait(min(max(LOOK_S, waited * LOOK_SHARE), LOOK_MOST_S))


def certify(authority: Authority, directory: Path, name: str) -> tuple[Path, Path]:
    """Make a key and a device certificate below `directory`; return the paths (cert, key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    return write_identity(directory, name, authority.sign_device_csr(csr(key), DeviceId(name)), key)


def csr(key: ec.EllipticCurvePrivateKey) -> str:
    """Return a request for a certificate of this key."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signed = request.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode()


def write_identity(
    directory: Path, name: str, signed: tuple[str, str], key: ec.EllipticCurvePrivateKey
) -> tuple[Path, Path]:
    """Write what `sign_device_csr` returned, and the key; return the paths (cert, key)."""
    cert_file, key_file = directory / f"{name}.pem", directory / f"{name}.key"
    cert_file.write_text(signed[0])
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return cert_file, key_file


class Broker(Protocol):
    """What tests do with a broker, whichever it is."""

    host: str
    port: int
    authority: Authority
    devices: list[str]

    @property
    def pid(self) -> int:
        """Process id of the broker that runs now."""
        ...

    def start(self) -> None:
        """Start it (again), and wait until it answers."""
        ...

    def stop(self) -> None:
        """End it in peace."""
        ...

    def restart(self) -> None:
        """Kill -9, and wait until a new one answers."""
        ...

    def reload(self) -> None:
        """Let it know that `devices`, or the authority's list of revoked ones, changed."""
        ...

    def settings(self, name: str, *, clean_session: bool = True) -> LinkSettings:
        """Return how `name`, a device or the registry, connects."""
        ...

    def replace(self, name: str) -> None:
        """Give a device a new certificate, and revoke its old one; `settings` tells the new."""
        ...


class _Rig:
    """What both brokers have in common."""

    def __init__(self, directory: Path, authority: Authority, devices: Sequence[str]) -> None:
        self.host, self.port = HOST, free_port()
        self.authority, self.devices = authority, list(devices)
        self.directory = directory
        self._identities = directory / "identities"
        self._identities.mkdir(parents=True, exist_ok=True)
        self._current: dict[str, tuple[Path, Path]] = {}
        self._making = threading.Lock()

    def settings(self, name: str, *, clean_session: bool = True) -> LinkSettings:
        """Return how `name`, a device or the registry, connects; makes its certificate once."""
        cert_file, key_file = self._identity(name)
        return LinkSettings(
            host=self.host,
            port=self.port,
            client_id=name,
            ca_file=self.authority.ca_file,
            cert_file=cert_file,
            key_file=key_file,
            clean_session=clean_session,
        )

    def replace(self, name: str) -> None:
        """Give a device a new certificate, as enrolling it again does."""
        self.authority.revoke([self.serial(name)])
        directory = self._identities / str(len(list(self._identities.iterdir())))
        directory.mkdir()
        self._current[name] = certify(self.authority, directory, name)

    def serial(self, name: str) -> str:
        """Return the serial number of a device's certificate."""
        cert_file, _ = self._identity(name)
        return certificates.serial_of(x509.load_pem_x509_certificate(cert_file.read_bytes()))

    def _identity(self, name: str) -> tuple[Path, Path]:
        if name == topics.REGISTRY_USER:
            return self.authority.registry_cert_file, self.authority.registry_key_file
        with self._making:
            if name not in self._current:
                self._current[name] = certify(self.authority, self._identities, name)
            return self._current[name]


class NatsRig(_Rig):
    """The embedded broker, as `packhorse serve` runs it."""

    def __init__(self, directory: Path, authority: Authority, devices: Sequence[str]) -> None:
        """Keep its data below `directory`."""
        super().__init__(directory, authority, devices)
        self.broker = self._make()

    def _make(self) -> NatsBroker:
        return NatsBroker(
            self.directory,
            self.authority,
            self.host,
            self.port,
            lambda: {DeviceId(device): self.serial(device) for device in tuple(self.devices)},
        )

    @property
    def pid(self) -> int:
        """Process id of the broker that runs now."""
        assert self.broker.pid is not None
        return self.broker.pid

    def start(self) -> None:
        """Start it (again)."""
        self.broker = self._make()
        self.broker.start()

    def stop(self) -> None:
        """End it in peace."""
        self.broker.stop()

    def restart(self) -> None:
        """Kill -9; our own supervision brings up the next one."""
        killed = self.pid
        os.kill(killed, signal.SIGKILL)
        eventually(lambda: self.pid != killed and self.broker.alive, "NATS is back")

    def reload(self) -> None:
        """Apply `devices`."""
        self.broker.reload()


class MosquittoRig(_Rig):
    """Mosquitto, on the files shipped in deploy/mosquitto."""

    def __init__(self, directory: Path, authority: Authority, devices: Sequence[str]) -> None:
        """Keep its data below `directory`."""
        super().__init__(directory, authority, devices)
        self._program = parts.require("mosquitto")
        self._child: subprocess.Popen[bytes] | None = None
        self.state = directory / "mosquitto"
        self.state.mkdir(exist_ok=True)
        self.log = self.state / "mosquitto.log"
        self._config = self.state / "mosquitto.conf"
        values = mosquitto_files.values(
            authority,
            host=self.host,
            port=self.port,
            acl=SHIPPED / "acl",
            state=self.state,
            user="root",
        )
        shipped = (SHIPPED / "mosquitto.conf").read_text()
        # One line more than shipped: by it the log says when a reload has been done.
        more = "log_type information\n"
        self._config.write_text(mosquitto_files.configured(shipped, values) + more)

    @property
    def pid(self) -> int:
        """Process id of the broker that runs now."""
        assert self._child is not None
        return self._child.pid

    def start(self) -> None:
        """Start it (again), and wait until it listens."""
        with self.log.open("ab") as log:
            child = children.spawn([self._program, "-c", str(self._config)], stderr=log, stdout=log)
        self._child = child
        eventually(
            lambda: child.poll() is not None or listens(self.port), "Mosquitto listens", 10.0
        )
        assert child.poll() is None, self.log.read_text()

    def stop(self) -> None:
        """End it in peace; it saves its state."""
        if self._child is not None:
            children.stop(self._child, grace_s=5.0)

    def restart(self) -> None:
        """Kill -9 and start again."""
        assert self._child is not None
        self._child.kill()
        self._child.wait()
        self.start()

    def reload(self) -> None:
        """Read the list of revoked certificates again."""
        before = self.log.stat().st_size
        os.kill(self.pid, signal.SIGHUP)
        eventually(
            lambda: b"Reloading config" in self.log.read_bytes()[before:], "Mosquitto reloaded"
        )


@contextlib.contextmanager
def nats(
    directory: Path, devices: Sequence[str] = (), authority: Authority | None = None
) -> Iterator[NatsRig]:
    """Run the embedded broker."""
    parts.require("nats-server")
    rig = NatsRig(directory, authority or Authority.open(directory / "authority"), devices)
    with _running(rig):
        yield rig


@contextlib.contextmanager
def mosquitto(
    directory: Path, devices: Sequence[str] = (), authority: Authority | None = None
) -> Iterator[MosquittoRig]:
    """Run Mosquitto."""
    rig = MosquittoRig(directory, authority or Authority.open(directory / "authority"), devices)
    with _running(rig):
        yield rig


@contextlib.contextmanager
def either(kind: str, directory: Path, devices: Sequence[str] = ()) -> Iterator[Broker]:
    """Run the broker of this kind: "nats" or "mosquitto"."""
    if kind == "nats":
        with nats(directory, devices) as embedded:
            yield embedded
    else:
        with mosquitto(directory, devices) as reference:
            yield reference


@contextlib.contextmanager
def frozen(broker: Broker) -> Iterator[None]:
    """Stop the broker's process without ending it: connections stand, and nothing answers."""
    pid = broker.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        # The signal stops one thread after the other; one that still runs could answer.
        eventually(lambda: _stopped(pid), "every thread of the broker is stopped")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _stopped(pid: int) -> bool:
    """Say whether every thread of a process is stopped."""
    states = [
        task.joinpath("stat").read_text().rpartition(")")[2].split()[0]
        for task in Path(f"/proc/{pid}/task").iterdir()
    ]
    return set(states) == {"T"}


@contextlib.contextmanager
def _running(rig: NatsRig | MosquittoRig) -> Iterator[None]:
    try:
        rig.start()
        yield
    finally:
        rig.stop()


def listens(port: int) -> bool:
    """Say whether somebody accepts connections at a port of this machine."""
    try:
        socket.create_connection((HOST, port), 1.0).close()
    except OSError:
        return False
    return True
