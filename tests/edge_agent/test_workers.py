import json
import os
import queue
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_agent import predict
from edge_agent.errors import NotRunningError
from edge_agent.mind import events
from edge_agent.mind.events import Event
from edge_agent.worker import protocol
from edge_agent.workers import minder
from edge_agent.workers.captured import CappedLog
from edge_agent.workers.listeners import Listeners
from edge_agent.workers.minder import Hooks
from edge_agent.workers.supervisor import WorkerSupervisor
from runtime.bundle import index as bundle_index
from runtime.bundle.index import Index
from runtime.messages import ModuleSpec
from tests.support import models


@dataclass
class Bench:
    """A supervisor, and what it says."""

    data: Path
    listeners: Listeners
    workers: WorkerSupervisor
    said: "queue.SimpleQueue[Event]" = field(default_factory=queue.SimpleQueue)
    spooled: threading.Event = field(default_factory=threading.Event)

    def start(self, slot: int, directory: Path, index: Index) -> None:
        spec = ModuleSpec("m", bundle_index.identity(index), "model", 1, "d1")
        self.workers.start(slot, spec, directory, index)

    def next(self, kind: type[Event]) -> Event:
        event = self.said.get(timeout=30)
        assert isinstance(event, kind), event
        return event

    def exited(self) -> events.WorkerExited:
        event = self.next(events.WorkerExited)
        assert isinstance(event, events.WorkerExited)
        return event

    def serve(self, slot: int, directory: Path, index: Index) -> None:
        self.start(slot, directory, index)
        self.next(events.WorkerLoaded)
        self.workers.send(slot, protocol.Accept())
        self.next(events.WorkerAccepting)

    def infer(self, *, timeout_s: float = 30.0) -> list[float]:
        x = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
        body = json.dumps({"inputs": [x]}).encode()
        code, answer = predict.infer(self.data / "run", "m", body, timeout_s=timeout_s)
        assert code == 200, answer
        values: list[float] = json.loads(answer)["outputs"][0]["data"]
        return values

    def pid(self, slot: int) -> int:
        return self.workers._minders[slot]._child.pid


@pytest.fixture
def bench() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        data = Path(name)
        listeners = Listeners(data / "run", {})
        said: queue.SimpleQueue[Event] = queue.SimpleQueue()
        spooled = threading.Event()
        hooks = Hooks(
            put=said.put,
            spooled=lambda *_told: spooled.set(),
            source_trouble=lambda *_told: None,
        )
        workers = WorkerSupervisor(
            data,
            listeners=listeners,
            source_roots=(),
            facts={},
            allow=("entry-script",),
            hooks=hooks,
        )
        yield Bench(data, listeners, workers, said, spooled)
        workers.stop_all(5)
        listeners.close_all()


def test_a_worker_loads_checks_serves_and_stops_as_told(bench: Bench) -> None:
    index = models.install(bench.data / "b", models.linear_model())
    bench.start(1, bench.data / "b", index)
    bench.next(events.WorkerLoaded)
    bench.workers.send(1, protocol.RunCheck())
    checked = bench.next(events.WorkerChecked)
    assert isinstance(checked, events.WorkerChecked)
    assert checked.ok
    bench.workers.send(1, protocol.Accept())
    bench.next(events.WorkerAccepting)

    assert bench.infer() == [10.0, 10.0, 10.0]
    assert bench.spooled.wait(10)

    bench.workers.stop(1)
    assert bench.exited() == events.WorkerExited("m", 1, "stopped")


def test_libraries_that_a_script_uses_take_one_core_unless_told_otherwise(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    entry = "import os\ndef run(inputs): return {'y': [float(os.environ['OMP_NUM_THREADS'])]}\n"
    index = models.install(bench.data / "b", models.linear_model(), entry=entry)
    bench.serve(1, bench.data / "b", index)

    assert bench.infer() == [1.0]


def test_traffic_moves_to_the_next_worker_on_the_same_socket(bench: Bench) -> None:
    first = models.install(bench.data / "b1", models.linear_model(factor=1))
    second = models.install(bench.data / "b2", models.linear_model(factor=2))
    bench.serve(1, bench.data / "b1", first)
    bench.serve(2, bench.data / "b2", second)
    bench.workers.send(1, protocol.Hold())
    bench.next(events.WorkerHeld)

    assert bench.infer() == [20.0, 20.0, 20.0]


def test_requests_wait_while_no_worker_serves(bench: Bench) -> None:
    index = models.install(bench.data / "b", models.linear_model())
    bench.serve(1, bench.data / "b", index)
    bench.workers.stop(1, kill=True)
    bench.exited()
    answers: queue.SimpleQueue[list[float]] = queue.SimpleQueue()
    asking = threading.Thread(target=lambda: answers.put(bench.infer()))
    asking.start()

    bench.serve(2, bench.data / "b", index)

    assert answers.get(timeout=30) == [10.0, 10.0, 10.0]
    asking.join()


def test_a_bundle_that_does_not_load_is_told_with_its_reason(bench: Bench) -> None:
    index = models.install(bench.data / "b", models.linear_model())
    (bench.data / "b" / "model.onnx").write_bytes(b"no model")

    bench.start(1, bench.data / "b", index)

    failed = bench.next(events.WorkerFailed)
    assert isinstance(failed, events.WorkerFailed)
    assert failed.text
    bench.exited()


def test_a_worker_that_dies_is_told_with_the_signal(bench: Bench) -> None:
    index = models.install(bench.data / "b", models.linear_model())
    bench.serve(1, bench.data / "b", index)

    os.kill(bench.pid(1), signal.SIGKILL)

    told = bench.exited()
    assert told.text.startswith("the worker was killed by SIGKILL")
    assert not told.final


def test_what_a_worker_printed_last_is_part_of_the_reason(bench: Bench) -> None:
    entry = "import os, sys\ndef init(context):\n    print('sensor bus on fire')\n    os._exit(7)\n"
    index = models.install(bench.data / "b", models.linear_model(), entry=entry)

    bench.start(1, bench.data / "b", index)

    assert bench.exited().text == "the worker ended with code 7: sensor bus on fire"
    assert "sensor bus on fire" in (bench.data / "logs" / "m.log").read_text()


def test_a_worker_over_its_memory_limit_is_killed_for_good(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minder, "MEMORY_S", 0.05)
    index = models.install(bench.data / "b", models.linear_model(), memory_mb=16)

    bench.start(1, bench.data / "b", index)

    told = bench.exited()
    assert told.final
    assert told.text.startswith("memory: used ")
    assert told.text.endswith("limit 16 MiB (resources.memory_mb)")


def test_a_worker_that_hangs_is_killed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minder, "PING_S", 0.1)
    monkeypatch.setattr(minder, "PONG_TIMEOUT_S", 1.0)
    index = models.install(bench.data / "b", models.linear_model())
    bench.serve(1, bench.data / "b", index)

    os.kill(bench.pid(1), signal.SIGSTOP)

    assert "no answer to pings" in bench.exited().text


def test_a_worker_that_ignores_stop_is_killed_in_time(bench: Bench) -> None:
    index = models.install(bench.data / "b", models.linear_model())
    bench.serve(1, bench.data / "b", index)
    os.kill(bench.pid(1), signal.SIGSTOP)

    bench.workers.stop_all(0.3)

    assert bench.exited().slot == 1


def test_the_last_words_of_a_worker_are_heard_before_its_end(bench: Bench) -> None:
    for slot in range(1, 6):
        ours, theirs = socket.socketpair()
        theirs.sendall(protocol.encode(protocol.Failed("ModelError", "no good")))
        theirs.close()
        child = subprocess.Popen(["true"])
        minder.Minder(
            child,
            ours,
            module="m",
            slot=slot,
            memory_mb=None,
            printed=CappedLog(bench.data / "x.log"),
            hooks=bench.workers._hooks,
        )
        assert bench.next(events.WorkerFailed) == events.WorkerFailed("m", slot, "no good")
        bench.exited()


@pytest.mark.parametrize(
    "frame", [b"\xff\xff\xff\xff", b"\x00\x00\x00\x01\xc1", b"\x00\x00\x00\x00"]
)
def test_a_worker_that_speaks_nonsense_is_killed(bench: Bench, frame: bytes) -> None:
    ours, theirs = socket.socketpair()
    child = subprocess.Popen(["sleep", "60"])
    minder.Minder(
        child,
        ours,
        module="m",
        slot=1,
        memory_mb=None,
        printed=CappedLog(bench.data / "x.log"),
        hooks=bench.workers._hooks,
    )
    theirs.sendall(frame)

    assert "it speaks nonsense" in bench.exited().text
    theirs.close()


def test_a_worker_that_cannot_be_started_is_told_like_one_that_ended(bench: Bench) -> None:
    index = models.install(bench.data / "b", models.linear_model())
    (bench.data / "run" / "m.sock").mkdir()

    bench.start(1, bench.data / "b", index)

    assert bench.exited().text.startswith("the worker could not be started")


def test_a_stale_socket_is_replaced_and_only_the_group_may_connect(bench: Bench) -> None:
    path = bench.listeners.path("m")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    bench.listeners.open("m")

    assert path.stat().st_mode & 0o777 == 0o660
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    bench.listeners.close("m")
    assert not path.exists()
    with pytest.raises(NotRunningError):
        bench.infer()


def test_a_port_that_is_taken_is_a_trouble_and_the_unix_socket_serves(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        listeners = Listeners(tmp_path / "r", {"m": port})

        assert len(listeners.open("m")) == 1

        (trouble,) = listeners.troubles()
        assert f"http.m: 127.0.0.1:{port}" in trouble
        listeners.close_all()
        assert listeners.troubles() == []


def test_a_log_never_grows_beyond_twice_its_cap(tmp_path: Path) -> None:
    log = CappedLog(tmp_path / "logs" / "m.log", cap_bytes=1000)
    for _ in range(50):
        log.append(b"x" * 99 + b"\n")
    log.append(b"y" * 5000)

    sizes = [path.stat().st_size for path in (tmp_path / "logs").iterdir()]

    assert sum(sizes) <= 2100
    assert len(sizes) <= 2
