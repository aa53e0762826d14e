"""The servers that are measured, and how each is started.

    asgi, grpc          floors: they decode nothing, run nothing and say one fixed thing
    ours                packhorse-runtime serve, everything switched on
    triton              tritonserver with its Python backend: its wheel brings no other
    mlserver, mlserver-w0   MLServer as it comes (one parallel worker), and without that worker
    kserve              KServe's Python server

Peers live in virtual environments of their own (scripts/install-bench-peers.sh); one that is not
installed is left out. Each runs the same onnxruntime, one thread, one process where it can. What
they log of each request is off where a setting of theirs turns it off, and in a file where not.
"""

import contextlib
import dataclasses
import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
from tritonclient.grpc import service_pb2

from runtime import children
from tests.benchmarks import serve_models
from tests.benchmarks.serve_models import TINY

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = Path(__file__).parent / "peers"
INSTALLED = ROOT / "build" / "bench-peers"
START_S = 60.0
POLL_S = 0.005
PROGRAM = Path(sys.executable).parent / "packhorse-runtime"
STOP_S = 10.0
HTTP_FORMS, FORMS = frozenset({"json", "binary"}), frozenset({"json", "binary", "grpc"})


@dataclasses.dataclass(frozen=True)
class Site:
    """What a server is given: model files by name, ports, and a directory of its own."""

    models: Mapping[str, Path]
    place: Path
    http_port: int
    grpc_port: int
    program: Path = PROGRAM
    """Our `packhorse-runtime`."""


@dataclasses.dataclass(frozen=True)
class Launch:
    """A command to start."""

    argv: list[str]
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Kind:
    """A server that can be measured."""

    name: str
    launch: Callable[[Site], Launch]
    forms: frozenset[str]
    answers: bool = True
    """It runs models, so that its answers can be checked."""
    peer: str | None = None
    """The virtual environment that it needs."""


@dataclasses.dataclass(frozen=True)
class Running:
    """A server that has said that it is ready."""

    kind: Kind
    pid: int
    http_port: int
    grpc_port: int
    started: float
    """time.perf_counter() just before it was started."""

    def processes(self) -> list[psutil.Process]:
        """Return its processes, itself first."""
        top = psutil.Process(self.pid)
        return [top, *top.children(recursive=True)]

    def cpu_s(self) -> float:
        """Return the CPU seconds that its processes have used."""
        total = 0.0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total

    def pss_mb(self) -> float:
        """Return the memory of its processes in MiB, what they share counted once."""
        total = 0
        for process in self.processes():
            with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
                text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
                line = next(line for line in text.splitlines() if line.startswith("Pss:"))
                total += int(line.split()[1])
        return total / 1024


def kinds() -> list[Kind]:
    """Return the servers that can be started here."""
    return [
        kind for kind in ALL if kind.peer is None or (INSTALLED / kind.peer / "installed").exists()
    ]


def left_out() -> list[str]:
    """Return the names of those that cannot."""
    return [kind.name for kind in ALL if kind not in kinds()]


@contextlib.contextmanager
def running(kind: Kind, models: Mapping[str, Path], program: Path = PROGRAM) -> Iterator[Running]:
    """Have a server run, alone and ready."""
    with tempfile.TemporaryDirectory(prefix="ph-bench-") as made:
        http_port, grpc_port = free_ports(2)
        site = Site(models, Path(made), http_port, grpc_port, program)
        launch = kind.launch(site)
        with spawned(launch, site.place) as (child, started):
            server = Running(kind, child.pid, site.http_port, site.grpc_port, started)
            wait(server, child, site.place / "log")
            yield server


@contextlib.contextmanager
def spawned(launch: Launch, place: Path) -> Iterator[tuple[subprocess.Popen[bytes], float]]:
    """Start a command with its output in place/log; afterwards nothing of it is left."""
    environment = {**os.environ, **launch.environment}
    # Where it is installed, a server's bytecode is there.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    with (place / "log").open("wb") as log:
        started = time.perf_counter()
        child = children.spawn(launch.argv, stdout=log, stderr=log, cwd=place, env=environment)
    try:
        yield child, started
    finally:
        family = psutil.Process(child.pid).children(recursive=True) if child.poll() is None else []
        children.stop(child, grace_s=STOP_S)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def wait(server: Running, child: subprocess.Popen[bytes], log: Path) -> None:
    """Return once it answers that it is ready; fail showing what it said."""
    while time.perf_counter() - server.started < START_S:
        if child.poll() is not None:
            break
        if ready(server):
            return
        threading.Event().wait(POLL_S)
    told = log.read_text(errors="replace")[-2000:]
    raise SystemExit(f"{server.kind.name} did not get ready:\n{told}")


def ready(server: Running) -> bool:
    """Tell whether it says so; for a floor, whether it listens."""
    if not server.kind.answers:
        port = server.http_port if "json" in server.kind.forms else server.grpc_port
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return True
        return False
    connection = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=5)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [probe.getsockname()[1] for probe in probes]


def ours(site: Site) -> Launch:
    """Start our server with what it does by default."""
    paths = [str(path) for path in site.models.values()]
    ports = ["--http-port", str(site.http_port), "--grpc-port", str(site.grpc_port)]
    return Launch([str(site.program), "serve", *paths, *ports])


def asgi(site: Site) -> Launch:
    """Start the empty app; its answer has the size of a real one."""
    output = {"name": "y", "datatype": "FP32", "shape": [1, 4], "data": [1.25, 2.5, -3.125, 17.0]}
    answer = {"model_name": TINY, "model_version": "1", "outputs": [output]}
    (site.place / "answer").write_text(json.dumps(answer))
    return _floor("floor_asgi.py", site.http_port, site)


def grpc_floor(site: Site) -> Launch:
    """Start bare gRPC; its answer has the size of a real one."""
    answer = service_pb2.ModelInferResponse(model_name=TINY, model_version="1")
    answer.outputs.add(name="y", datatype="FP32", shape=[1, 4])
    answer.raw_output_contents.append(bytes(16))
    (site.place / "answer").write_bytes(answer.SerializeToString())
    return _floor("floor_grpc.py", site.grpc_port, site)


def _floor(script: str, port: int, site: Site) -> Launch:
    return Launch([sys.executable, str(SCRIPTS / script), str(port), str(site.place / "answer")])


def mlserver(workers: int) -> Callable[[Site], Launch]:
    """Return how MLServer starts with so many parallel workers; 1 is its default."""

    def launch(site: Site) -> Launch:
        settings: dict[str, Any] = {
            "http_port": site.http_port, "grpc_port": site.grpc_port,
            "metrics_port": free_ports(1)[0], "host": "127.0.0.1", "debug": False,
            "parallel_workers": workers,
        }  # fmt: skip
        (site.place / "settings.json").write_text(json.dumps(settings))
        shutil.copy(SCRIPTS / "mlserver_model.py", site.place)
        for name, path in site.models.items():
            (site.place / name).mkdir()
            parameters = {"uri": str(path), "version": "1"}
            model = {
                "name": name, "implementation": "mlserver_model.OnnxModel", "parameters": parameters
            }  # fmt: skip
            (site.place / name / "model-settings.json").write_text(json.dumps(model))
        program = INSTALLED / "mlserver" / "bin" / "mlserver"
        return Launch(
            [str(program), "start", str(site.place)],
            {"PYTHONPATH": str(site.place), "PYTHONWARNINGS": "ignore"},
        )

    return launch


def kserve(site: Site) -> Launch:
    """Start KServe; its request log goes to a file."""
    files = [f"{name}={path}" for name, path in site.models.items()]
    ports = ["--http_port", str(site.http_port), "--grpc_port", str(site.grpc_port)]
    python = INSTALLED / "kserve" / "bin" / "python"
    script = str(SCRIPTS / "kserve_server.py")
    return Launch([str(python), script, *ports, "--model_files", *files])


def triton(site: Site) -> Launch:
    """Start tritonserver; its Python backend must find its stub beside it."""
    venv = INSTALLED / "triton"
    packages = next((venv / "lib").glob("python3.*/site-packages"))
    version = packages.parent.name.removeprefix("python")
    home = packages / "pytriton" / "tritonserver"
    shutil.copytree(home / "backends", site.place / "backends")
    stub = home / "python_backend_stubs" / version / "triton_python_backend_stub"
    shutil.copy(stub, site.place / "backends" / "python")
    for name, path in site.models.items():
        _triton_model(site.place / "models" / name, path)
    argv = [
        str(home / "bin" / "tritonserver"), "--model-repository", str(site.place / "models"),
        "--backend-directory", str(site.place / "backends"),
        "--http-port", str(site.http_port), "--grpc-port", str(site.grpc_port),
        "--metrics-port", str(free_ports(1)[0]), "--allow-gpu-metrics", "false",
        "--http-address", "127.0.0.1", "--grpc-address", "127.0.0.1",
        "--metrics-address", "127.0.0.1",
    ]  # fmt: skip
    programs = os.pathsep.join([str(venv / "bin"), os.environ["PATH"]])
    libraries = str(packages / "nvidia_pytriton.libs")
    return Launch(
        argv, {"PATH": programs, "PYTHONPATH": str(packages), "LD_LIBRARY_PATH": libraries}
    )


def _triton_model(directory: Path, path: Path) -> None:
    (directory / "1").mkdir(parents=True)
    shutil.copy(SCRIPTS / "triton_model.py", directory / "1" / "model.py")
    dims = ", ".join(["-1", *map(str, serve_models.SHAPES[directory.name][1:])])
    size = serve_models.OUTPUTS[directory.name]
    (directory / "config.pbtxt").write_text(
        f'name: "{directory.name}"\nbackend: "python"\nmax_batch_size: 0\n'
        f'input [{{name: "x", data_type: TYPE_FP32, dims: [{dims}]}}]\n'
        f'output [{{name: "y", data_type: TYPE_FP32, dims: [-1, {size}]}}]\n'
        f'parameters [{{key: "file", value: {{string_value: "{path}"}}}}]\n'
        "instance_group [{count: 1, kind: KIND_CPU}]\n"
    )


ALL = [
    Kind("asgi", asgi, HTTP_FORMS, answers=False),
    Kind("grpc", grpc_floor, frozenset({"grpc"}), answers=False),
    Kind("ours", ours, FORMS),
    Kind("triton", triton, FORMS, peer="triton"),
    Kind("mlserver", mlserver(1), frozenset({"json", "grpc"}), peer="mlserver"),
    Kind("mlserver-w0", mlserver(0), frozenset({"json", "grpc"}), peer="mlserver"),
    Kind("kserve", kserve, FORMS, peer="kserve"),
]
