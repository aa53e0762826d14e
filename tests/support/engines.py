"""A real Docker engine of the tests' own, shared by all test processes of this clone.

    with engines.shared() as rig:
        engine = Engine(Address(rig.url))

    /tmp/packhorse-docker-…/    lock, users/<pid>, data, exec, docker.sock, port, tls, log
    build/parts/                the base image (made once by debootstrap), packages, layers

The first process starts the engine and the last one ends it; who was killed does not count. All it
held goes with it. The base image and what images are made of are kept for the next run.
"""

import contextlib
import fcntl
import hashlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from cloud.trust.authority import Authority
from runtime.containers.engine import Engine
from runtime.containers.specs import Address
from tests.support import parts
from tests.support.brokers import eventually, free_port

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / "build" / "parts"
BASE = "packhorse-test/python:base"
PATIENCE_S = 60.0


class Rig:
    """The engine."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "docker.sock"

    @property
    def url(self) -> str:
        """Where it can be reached."""
        return f"unix://{self.socket}"

    @property
    def tcp_url(self) -> str:
        """The same engine on TCP; it lets in only who shows a certificate of `authority`."""
        return f"tcp://127.0.0.1:{(self.directory / 'port').read_text()}"

    @property
    def authority(self) -> Authority:
        """Who signed the engine's certificate, and ours."""
        return Authority.open(self.directory / "tls")

    @property
    def pid(self) -> int | None:
        """Of the engine that runs; None: it does not."""
        try:
            pid = int((self.directory / "pid").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if _lives(pid) else None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        program = parts.require("dockerd")
        folder = self.directory
        (folder / "pid").unlink(missing_ok=True)
        if not (folder / "port").exists():
            (folder / "port").write_text(str(free_port()))
        authority = self.authority
        with (folder / "log").open("ab") as log:
            subprocess.run(
                [
                    *(parts.require("setsid"), "--fork", program),
                    *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
                    *("-H", self.url, "-H", self.tcp_url, "-p", str(folder / "pid")),
                    *("--tlsverify", "--tlscacert", str(authority.ca_file)),
                    *("--tlscert", str(authority.server_cert_file)),
                    *("--tlskey", str(authority.server_key_file)),
                    # Services have networks of their own; other engines may have docker0.
                    "--bridge=none",
                    # And modules of ten devices too: Docker's own pools make about thirty.
                    *("--default-address-pool", "base=10.192.0.0/11,size=24"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
                env={**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"},
            )
        eventually(self._answers, f"dockerd answers: see {folder / 'log'}", PATIENCE_S)

    def stop(self) -> None:
        """End it, and wait for that; containers end too."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
            eventually(lambda: not _lives(pid), "dockerd has ended", PATIENCE_S)

    def restart(self) -> None:
        """Stop it, and start it again with the same data, as an upgrade of it does."""
        self.stop()
        self.start()

    def _answers(self) -> bool:
        with contextlib.closing(_Local(str(self.socket))) as connection:
            try:
                connection.request("GET", "/_ping")
                return connection.getresponse().status == http.client.OK
            except OSError:
                return False


class _Local(http.client.HTTPConnection):
    """HTTP on a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=5)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(5)
        self.sock.connect(self._path)


def place() -> Rig:
    """Return the engine that this clone's tests share, whether or not it runs."""
    name = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    return Rig(Path(tempfile.gettempdir()) / f"packhorse-docker-{name}")


@contextlib.contextmanager
def shared() -> Iterator[Rig]:
    """Give the engine that this clone's tests share, with the base image in it."""
    parts.require_root("to run dockerd")
    for program in ("dockerd", "iptables", "debootstrap"):
        parts.require(program)
    rig = place()
    directory, users = rig.directory, rig.directory / "users"
    users.mkdir(parents=True, exist_ok=True)
    mine = users / str(os.getpid())
    with _locked(directory):
        if not _living(users) or rig.pid is None:
            _clear(rig)
            users.mkdir(parents=True, exist_ok=True)
            rig.start()
            _import(rig, base_image())
        mine.touch()
    try:
        yield rig
    finally:
        with _locked(directory):
            mine.unlink(missing_ok=True)
            if not _living(users):
                _clear(rig)


def lend_images(data: Path) -> None:
    """Have a registry that keeps its things below `data` make images of what is kept here."""
    kept = CACHE / "images"
    kept.mkdir(parents=True, exist_ok=True)
    data.mkdir(parents=True, exist_ok=True)
    (data / "images").symlink_to(kept)


@contextlib.contextmanager
def alone(*, images: Engine | None = None, names: Sequence[str] = ()) -> Iterator[Rig]:
    """Give an engine that a test may stop, with images copied from another one, if any."""
    directory = Path(tempfile.mkdtemp(prefix="packhorse-docker-"))
    rig = Rig(directory)
    try:
        rig.start()
        if images is not None:
            with contextlib.closing(Engine(Address(rig.url))) as engine:
                engine._api.load_image(_saved(images, names))
        yield rig
    finally:
        _clear(rig)
        shutil.rmtree(directory, ignore_errors=True)


def _saved(engine: Engine, names: Sequence[str]) -> Iterator[bytes]:
    """Return one tar of several images, with what they have in common once."""
    api = engine._streams
    answer = api._get(api._url("/images/get"), params={"names": list(names)}, stream=True)
    api._raise_for_status(answer)
    chunks: Iterator[bytes] = answer.iter_content(1 << 20)
    return chunks


def base_image() -> Path:
    """Return a tar of a small Debian or Ubuntu with Python; make it if there is none."""
    done = subprocess.run(
        [ROOT / "scripts" / "make-base-image.sh"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        parts.missing(done.stderr)
    return Path(done.stdout.strip())


def _import(rig: Rig, tar: Path) -> None:
    with contextlib.closing(_Local(str(rig.socket))) as connection, tar.open("rb") as file:
        name, _, tag = BASE.partition(":")
        connection.timeout = PATIENCE_S
        connection.request(
            "POST",
            f"/images/create?fromSrc=-&repo={name}&tag={tag}",
            file,
            {"Content-Type": "application/x-tar", "Content-Length": str(tar.stat().st_size)},
        )
        connection.sock.settimeout(PATIENCE_S)
        answer = connection.getresponse()
        said = answer.read().decode()
        assert answer.status == http.client.OK, said
        assert '"error"' not in said, said


def _clear(rig: Rig) -> None:
    """End what a former run left, and remove all it held."""
    rig.stop()
    for mounts in Path("/proc/self/mounts").read_text().splitlines():
        place = mounts.split()[1]
        if Path(place).is_relative_to(rig.directory):
            subprocess.run(["umount", "-l", place], check=False)
    for each in ("data", "exec", "users"):
        shutil.rmtree(rig.directory / each, ignore_errors=True)
    (rig.directory / "port").unlink(missing_ok=True)  # somebody may have it by then


def _living(users: Path) -> bool:
    for each in users.iterdir() if users.exists() else ():
        if not _lives(int(each.name)):
            each.unlink(missing_ok=True)
    return users.exists() and any(users.iterdir())


def _lives(pid: int) -> bool:
    try:
        # A zombie has ended; nobody may have waited for it.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
