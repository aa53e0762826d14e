import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.worker import protocol
from runtime.bundle.index import Check
from tests.support import models, workers
from tests.support.workers import Module

INFER = "/v2/models/mod/infer"


def request(value: float = 1.0, **more: Any) -> dict[str, Any]:
    """A request for a linear model of four inputs."""
    data = [value] * 4
    return {"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": data}], **more}


def npy(*shape: int) -> bytes:
    """The bytes of a .npy file of ones."""
    file = io.BytesIO()
    np.save(file, np.ones(shape, np.float32))
    return file.getvalue()


@pytest.fixture
def module(tmp_path: Path) -> Iterator[Module]:
    models.install(tmp_path, models.linear_model(), name="linear")
    with workers.module(tmp_path) as module:
        yield module


def test_a_worker_loads_serves_records_and_ends_as_told(module: Module) -> None:
    with workers.running(module.start()) as worker:
        worker.send(protocol.Accept())
        worker.expect(protocol.Accepting)
        client = module.connect()

        status, answer = client.ask("POST", INFER, request(2, id="r-9"))
        records = list(module.drain())

        assert (status, answer["outputs"][0]["data"]) == (200, [8, 8, 8])
        assert [(r.module, r.model, r.version, r.request) for r in records] == [
            ("mod", "linear", 1, "r-9")
        ]
        assert records[0].outputs == {"y": [[8.0, 8.0, 8.0]]}
        assert records[0].inputs is None
        worker.expect(protocol.Spooled)
        client.close()
        worker.send(protocol.Stop())
        assert worker.end() == 0


def test_a_ping_is_answered_also_while_loading(module: Module) -> None:
    worker = module.start()
    worker.send(protocol.Ping())
    worker.expect(protocol.Pong)
    worker.close()


@pytest.mark.parametrize(
    ("path", "content", "text"),
    [
        ("model.onnx", b"broken", "model.onnx does not load"),
        ("model.onnx", None, "model.onnx does not load"),
        (".index.json", b"{}", "index"),
        (".index.json", None, ".index.json"),
    ],
)
def test_a_bundle_that_does_not_load_is_told_in_one_line_and_ends_the_worker(
    module: Module, path: str, content: bytes | None, text: str
) -> None:
    start = module.order()
    target = module.directory / path
    target.unlink()
    if content is not None:
        target.write_bytes(content)
    worker = workers.Worker(start)

    failed = worker.expect(protocol.Failed)

    assert text in failed.text
    assert "\n" not in failed.text
    assert "Traceback" not in failed.text
    assert worker.end() == 1
    worker.close()


def test_the_check_runs_and_its_result_is_told(tmp_path: Path) -> None:
    golden = io.BytesIO()
    np.savez(golden, x=np.ones((1, 4), np.float32))
    wrong = io.BytesIO()
    np.savez(wrong, y=np.zeros((1, 3), np.float32))
    models.install(
        tmp_path,
        models.linear_model(),
        extra={"in.npz": golden.getvalue(), "out.npz": wrong.getvalue()},
        check=Check(inputs="in.npz", outputs="out.npz"),
    )
    with workers.module(tmp_path) as module, workers.running(module.start()) as worker:
        worker.send(protocol.RunCheck())
        checked = worker.expect(protocol.Checked)

    assert not checked.ok
    assert "output y differs in 3 of 3 values" in checked.text


def test_a_worker_whose_agent_is_gone_drains_and_ends(module: Module) -> None:
    with workers.running(module.start()) as worker:
        worker.control.shutdown(2)

        assert worker.end() == 0


def test_a_worker_told_to_stop_while_it_loads_ends_at_once(tmp_path: Path) -> None:
    models.install(
        tmp_path, models.linear_model(), entry="import threading\nthreading.Event().wait()\n"
    )
    with workers.module(tmp_path) as module:
        worker = module.start()
        worker.send(protocol.Stop())

        assert worker.end() == 0
        worker.close()


def test_a_worker_that_is_told_nonsense_ends_with_a_fault(module: Module) -> None:
    with workers.running(module.start()) as worker:
        worker.control.sendall((1 << 30).to_bytes(4, "big"))

        assert worker.end() == 2


def test_memory_is_bounded_as_a_backstop(tmp_path: Path) -> None:
    greedy = "def run(inputs):\n    return {'y': bytearray(4 << 30)}\n"
    models.install(tmp_path, models.linear_model(), entry=greedy, memory_mb=128)
    with workers.module(tmp_path) as module, workers.running(module.start()) as worker:
        worker.send(protocol.Accept())
        worker.expect(protocol.Accepting)
        client = module.connect()
        status, answer = client.ask("POST", INFER, request())
        client.close()

    assert status == 500
    assert "out of memory" in answer["error"] or "MemoryError" in answer["error"]


def test_versions_take_over_from_each_other_without_a_failed_request(
    module: Module, tmp_path: Path
) -> None:
    """Real processes: the new one accepts, the old one holds, and ends."""
    second = tmp_path / "second"
    models.install(second, models.linear_model(factor=10.0), name="linear")
    directories = [module.directory, second]
    current = module.start(version=1)
    current.load()
    current.send(protocol.Accept())
    current.expect(protocol.Accepting)
    kept, values = module.connect(), set()

    for swap in range(4):
        new = module.start(version=swap + 2, directory=directories[(swap + 1) % 2])
        new.load()
        new.send(protocol.Accept())
        new.expect(protocol.Accepting)
        current.send(protocol.Hold())
        for _ in range(50):
            fresh = module.connect()
            answers = [client.ask("POST", INFER, request()) for client in (kept, fresh)]
            fresh.close()
            assert [status for status, _ in answers] == [200, 200]
            values |= {answer["outputs"][0]["data"][0] for _, answer in answers}
        current.expect(protocol.Held)
        current.send(protocol.Stop())
        assert kept.ask("POST", INFER, request())[0] == 200
        assert current.end() == 0
        current.close()
        current = new

    assert values == {4, 40}
    assert len(module.drain()) == 4 * 101
    kept.close()
    current.close()


def test_a_held_worker_takes_traffic_again(module: Module) -> None:
    with workers.running(module.start()) as worker:
        worker.send(protocol.Accept(), protocol.Hold())
        worker.expect(protocol.Held)
        worker.send(protocol.Accept())
        worker.expect(protocol.Accepting)
        client = module.connect()

        assert client.ask("POST", INFER, request())[0] == 200
        client.close()


def test_sources_give_records_with_where_they_came_from(module: Module) -> None:
    with workers.running(module.start(sources=("directory:",))) as worker:
        worker.send(protocol.StartSources({}))
        for name in ("b.npy", "a.npy"):
            workers.put(module.inbox / name, npy(1, 4))
        workers.put(module.inbox / "broken.npy", b"no array")
        records = module.wait_for(3)
        worker.send(protocol.StopSources())
        worker.expect(protocol.SourcesStopped)

    assert {record.source for record in records} == {"directory:"}
    assert {record.item: record.outputs for record in records} == {
        "a.npy": {"y": [[4, 4, 4]]},
        "b.npy": {"y": [[4, 4, 4]]},
        "broken.npy": None,
    }
    assert [record.error is not None for record in records if record.item == "broken.npy"] == [True]
    left = sorted(path.name for path in module.inbox.rglob("*") if path.is_file())
    assert left == ["broken.npy"]


def test_a_source_that_cannot_be_read_is_a_trouble_until_it_can(module: Module) -> None:
    away = module.inbox / "later"
    with workers.running(module.start(sources=(f"directory:{away}",))) as worker:
        worker.send(protocol.StartSources({}))
        trouble = worker.expect(protocol.SourceTrouble)
        away.mkdir()
        cleared = worker.expect(protocol.SourceTrouble)

    assert "is no directory" in trouble.text
    assert (cleared.source, cleared.text) == (f"directory:{away}", "")


@pytest.mark.slow
def test_items_are_recorded_exactly_once_however_often_the_worker_is_killed(
    module: Module,
) -> None:
    uri = "directory:?then=delete"
    rows = "\n".join(["a,b,c,d", *(f"{n},0,0,0" for n in range(200))])
    for n in range(60):
        workers.put(module.inbox / f"{n:03d}.npy", npy(1, 4))
    workers.put(module.inbox / "rows.csv", rows.encode())

    for kill in range(12):
        worker = module.start(sources=(uri,))
        worker.load()
        seen = len(module.drain())
        worker.send(protocol.StartSources(dict(module.positions())))
        module.wait_for(min(seen + 1 + kill * 3, 260))
        worker.kill()
        worker.close()
    with workers.running(module.start(sources=(uri,))) as worker:
        module.drain()
        worker.send(protocol.StartSources(dict(module.positions())))
        records = module.wait_for(260)
        worker.send(protocol.StopSources())
        worker.expect(protocol.SourcesStopped)

    items = [record.item for record in module.drain()]
    wanted = {f"{n:03d}.npy" for n in range(60)} | {f"rows.csv:{n}" for n in range(1, 201)}
    assert len(items) == len(set(items)) == 260
    assert set(items) == wanted
    assert all(record.error is None for record in records)
    assert [path for path in module.inbox.rglob("*") if path.is_file()] == []
