import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge_agent.errors import NotRunningError
from runtime import datalock, digests
from runtime.errors import InUseError, LinkError
from runtime.messages import ModuleSpec, Phase
from tests.support import agents, filesystems, uplinks
from tests.support.agents import Device
from tests.support.httpfiles import NO_FAULT, Fault

ROW = [1.0, 2.0, 3.0, 4.0]
BAD_NAME = (
    b'{"device":"dev-a","generation":9,"issued_at":1,"modules":[{"name":"../x",'
    b'"bundle":"a","model":"m","version":1,"deployment":"d"}]}'
)
DOUBLE, TRIPLE = [2.0, 4.0, 6.0, 8.0], [3.0, 6.0, 9.0, 12.0]


@pytest.fixture
def device() -> Iterator[Device]:
    with agents.device() as made:
        yield made


@pytest.fixture
def running(device: Device) -> Device:
    """Give a device on which a bundle that doubles is running."""
    device.start()
    first = device.bundle("first")
    device.want(first)
    device.until_running(first)
    return device


def failed(device: Device, words: str) -> Callable[[], bool]:
    """Return what says whether the wanted bundle has failed with these words."""

    def holds() -> bool:
        told = device.module()
        return told.phase is Phase.FAILED and words in told.reason

    return holds


def answer_of(device: Device) -> object:
    """Return an answer as a tuple, or the error that there was instead."""
    try:
        return tuple(device.infer(ROW))
    except (LinkError, NotRunningError) as error:
        return error


@contextlib.contextmanager
def asking(device: Device) -> Iterator[list[object]]:
    """Ask without a pause while the block runs; give the answers, or errors, as they come."""
    answers: list[object] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            answers.append(answer_of(device))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield answers
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_no_request_fails_while_versions_change(running: Device) -> None:
    with asking(running) as answers:
        for name, factor in (("second", 3.0), ("third", 4.0)):
            bundle = running.bundle(name, factor=factor)
            running.want(bundle, soak_s=0.0)
            running.until_running(bundle)
        count = len(answers)
        running.until(lambda: len(answers) > count + 20, "more answers")

    assert [answer for answer in answers if not isinstance(answer, tuple)] == []
    assert {answer[0] for answer in answers if isinstance(answer, tuple)} == {2.0, 3.0, 4.0}


def test_a_crash_of_the_new_version_in_its_soak_time_fails_no_later_request(
    running: Device,
) -> None:
    old = {child.pid for child in workers(running)}
    second = running.bundle("second", factor=3.0)
    running.want(second, soak_s=60.0)
    running.until_running(second)

    (new,) = [child for child in workers(running) if child.pid not in old]
    new.kill()

    running.until(lambda: running.infer(ROW) in (DOUBLE, TRIPLE), "it answers", 5.0)
    running.until(lambda: running.module().restarts == 1, "the crash is counted")
    running.until_running(second)


def workers(device: Device) -> list[psutil.Process]:
    assert device.process is not None
    return psutil.Process(device.process.pid).children()


def test_a_model_whose_check_fails_is_refused_and_the_old_one_answers(running: Device) -> None:
    def wrong_outputs(directory: Path) -> None:
        x = np.load(directory / "golden" / "inputs.npz")["x"]
        np.savez(directory / "golden" / "outputs.npz", y=x * 7)

    running.want(running.bundle("second", factor=3.0, change=wrong_outputs))

    running.until(failed(running, "check: output y differs"), "the check fails")
    assert running.infer(ROW) == DOUBLE
    assert running.module().running is not None


def test_a_model_over_its_memory_limit_is_refused_with_the_figures(running: Device) -> None:
    def limit(directory: Path) -> None:
        yaml = directory / "bundle.yaml"
        yaml.write_text(yaml.read_text() + "resources:\n  memory_mb: 10\n")

    running.want(running.bundle("second", change=limit, factor=3.0))

    running.until(failed(running, "limit 10 MiB (resources.memory_mb)"), "the limit is noticed")
    assert running.infer(ROW) == DOUBLE


def test_an_entry_script_that_fails_is_refused_with_its_own_words(running: Device) -> None:
    def add_entry(directory: Path) -> None:
        yaml = directory / "bundle.yaml"
        yaml.write_text(yaml.read_text() + "entry: score.py\n")
        (directory / "score.py").write_text("def init(context):\n    raise OSError('no camera')\n")

    running.want(running.bundle("second", change=add_entry, factor=3.0))

    running.until(failed(running, "no camera"), "the script's error is reported")
    assert running.infer(ROW) == DOUBLE


def test_a_bundle_that_nobody_has_is_reported_and_the_old_one_answers(running: Device) -> None:
    unknown = ModuleSpec(agents.MODULE, digests.of_bytes(b"unknown"), "ghost", 9, "d9")

    running.want_all(unknown)

    running.until(lambda: running.module().bundle == unknown.bundle, "it is taken over")
    running.until(lambda: running.module().reason != "", "it says why", 90)
    assert running.infer(ROW) == DOUBLE


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (b"{", "Desired"),
        (b'{"device":"dev-b","generation":9,"issued_at":1}', "desired.device"),
        (b'{"device":"dev-a","generation":9,"issued_at":1,"format":2}', "upgrade"),
        (BAD_NAME, "desired.modules.name"),
    ],
)
def test_a_desired_state_that_makes_no_sense_is_a_trouble_and_changes_nothing(
    running: Device, payload: bytes, words: str
) -> None:
    (running.folder / "desired.json").write_bytes(payload)

    running.until(lambda: any(words in text for text in running.status().troubles), "the trouble")
    assert running.infer(ROW) == DOUBLE
    assert running.status().generation == 1

    running.want(running.directory / "first")
    running.until(lambda: running.status().troubles == (), "the trouble ends")


def test_a_device_that_boots_without_a_network_answers_and_keeps_its_records(
    running: Device,
) -> None:
    running.kill()
    (running.folder / "offline").touch()
    before = len(uplinks.taken(running.folder))

    running.start()
    running.until(lambda: running.infer(ROW, request="offline") == DOUBLE, "it answers", 20.0)
    running.until(lambda: running.status().vitals["outbox_records"] > 0, "records wait")
    assert len(uplinks.taken(running.folder)) == before

    (running.folder / "offline").unlink()
    running.until(lambda: running.status().vitals["outbox_records"] == 0, "records are sent")
    records = [record for batch in uplinks.taken(running.folder) for record in batch.records]
    assert "offline" in {record.request for record in records}


def test_what_was_deployed_while_a_device_was_away_comes_when_it_returns(running: Device) -> None:
    (running.folder / "offline").touch()
    second = running.bundle("second", factor=3.0)
    running.want(second)
    assert running.infer(ROW) == DOUBLE

    (running.folder / "offline").unlink()

    running.until_running(second)


def test_a_clock_at_1970_is_a_trouble_and_stops_nothing(device: Device) -> None:
    device.start(clock=0.0)
    first = device.bundle("first")
    device.want(first)
    device.until_running(first)

    assert device.infer(ROW) == DOUBLE
    (trouble,) = device.status().troubles
    assert trouble.startswith("clock: reads 1970-01-01T")


def test_a_damaged_download_never_becomes_a_version(running: Device) -> None:
    def plan(_path: str, _number: int) -> Fault:
        return Fault(flip_byte=10)

    running.server.plan = plan
    second = running.bundle("second", factor=3.0)
    running.want(second)
    running.until(lambda: running.module().retrying, "it is tried again")
    assert running.infer(ROW) == DOUBLE

    running.server.plan = lambda _path, _number: NO_FAULT
    running.until_running(second)


def test_a_damaged_disk_is_mended_from_the_registry(running: Device) -> None:
    running.kill()
    (model,) = (running.data / "bundles").glob("*/model.onnx")
    model.chmod(0o600)
    data = bytearray(model.read_bytes())
    data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
    model.write_bytes(data)

    running.start()

    running.until(lambda: running.infer(ROW) == DOUBLE, "it answers again")


def test_a_module_that_is_no_longer_wanted_stops_and_leaves_no_files(running: Device) -> None:
    running.want_all()

    running.until(lambda: running.status().modules == (), "it is gone")
    running.until(lambda: list((running.data / "bundles").iterdir()) == [], "its files are gone")
    with pytest.raises(NotRunningError):
        running.infer(ROW)


def test_two_modules_run_side_by_side(device: Device) -> None:
    device.start()
    specs = [
        device.spec(device.bundle("first"), module="double"),
        device.spec(device.bundle("second", factor=3.0), module="triple"),
    ]
    device.want_all(*specs)

    device.until(lambda: device.infer(ROW, module="double") == DOUBLE, "the first answers")
    device.until(lambda: device.infer(ROW, module="triple") == TRIPLE, "the second answers")


def test_old_bundles_are_swept_but_the_one_before_is_kept(running: Device) -> None:
    for name, factor in (("second", 3.0), ("third", 4.0)):
        bundle = running.bundle(name, factor=factor)
        running.want(bundle, soak_s=0.0)
        running.until_running(bundle)

    kept = {running.spec(running.directory / name).bundle for name in ("second", "third")}
    running.until(lambda: set(os.listdir(running.data / "bundles")) == kept, "only two are kept")  # noqa: PTH208 - names


def test_an_idle_agent_writes_nothing(running: Device) -> None:
    running.infer(ROW)
    running.until(lambda: uplinks.taken(running.folder) != [], "the record is sent")
    running.until(lambda: running.status().vitals["outbox_records"] == 0, "and acknowledged")
    running.until(lambda: len(workers(running)) == 1, "the soak time is over")
    threading.Event().wait(1.5)

    before = written(running.data)
    threading.Event().wait(3.0)

    assert written(running.data) == before


def written(data: Path) -> dict[str, tuple[int, int]]:
    """Return name, time and size of every file below a directory."""
    return {
        str(path): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in data.rglob("*")
        if path.is_file()
    }


def test_an_agent_ends_in_peace_and_goes_on_where_it_was(running: Device) -> None:
    started = time.monotonic()
    assert running.stop() == 0
    assert time.monotonic() - started < 10

    running.start()

    running.until(lambda: running.infer(ROW) == DOUBLE, "it answers", 20.0)
    assert running.status().generation == 1


def test_workers_die_with_a_killed_agent(running: Device) -> None:
    held = workers(running)

    running.kill()

    gone, alive = psutil.wait_procs(held, timeout=10)
    assert (len(gone), alive) == (1, [])


def test_a_second_agent_on_the_same_directory_is_refused(running: Device) -> None:
    assert running.process is not None
    refused = pytest.raises(InUseError, match=str(running.process.pid))
    with refused, datalock.held(running.data):
        pass


def test_sources_are_read_exactly_once_through_a_change_of_version(device: Device) -> None:
    device.start()
    first, second = device.bundle("first"), device.bundle("second", factor=3.0)
    device.want(first, sources=("directory:",), soak_s=0.0)
    device.until_running(first)
    for number in range(12):
        put_rows(device.data / "inbox", f"{number:03d}.csv", number)
        if number == 4:
            device.want(second, sources=("directory:",), soak_s=0.0)
        threading.Event().wait(0.15)
    device.until_running(second)

    def items() -> list[str]:
        records = [record for batch in uplinks.taken(device.folder) for record in batch.records]
        return [record.item for record in records if record.item is not None]

    device.until(lambda: len(items()) >= 60, "every row was read")
    assert len(items()) == 60
    assert len(set(items())) == 60


def put_rows(inbox: Path, name: str, number: int) -> None:
    """Put a CSV file of five rows into the inbox, whole."""
    rows = "".join(f"{number},{row},0,1\n" for row in range(5))
    (inbox / f".{name}").write_text(rows)
    (inbox / f".{name}").rename(inbox / name)


def test_a_full_disk_is_waited_for_and_the_old_version_answers() -> None:
    with filesystems.of_size(megabytes=16) as place, agents.device(data=place / "data") as device:
        device.start()
        first = device.bundle("first")
        device.want(first)
        device.until_running(first)
        ballast = place / "ballast"
        fill(ballast)

        second = device.bundle("second", factor=3.0)
        device.want(second)
        device.until(lambda: device.module().reason.startswith("disk: "), "the disk is reported")
        assert device.module().retrying
        assert device.infer(ROW) == DOUBLE

        ballast.unlink()
        device.until_running(second)


def test_a_journal_that_cannot_be_written_is_a_trouble_and_nothing_is_taken_over() -> None:
    with filesystems.of_size(megabytes=16) as place, agents.device(data=place / "data") as device:
        device.start()
        first = device.bundle("first")
        device.want(first)
        device.until_running(first)
        ballast = place / "ballast"
        fill(ballast)
        second = device.bundle("second", factor=3.0)

        device.want_all(
            device.spec(second), *(device.spec(second, module=f"m{n}") for n in range(60))
        )

        device.until(
            lambda: "journal: cannot be written" in str(device.status().troubles), "the trouble"
        )
        assert device.status().generation == 1
        workers(device)[0].kill()
        device.until(lambda: device.infer(ROW) == DOUBLE, "a crash is mended all the same")

        ballast.unlink()
        device.want(second)
        device.until(lambda: device.status().generation == 3, "it is taken over")
        device.until(lambda: device.status().troubles == (), "the trouble ends")


def fill(ballast: Path) -> None:
    """Leave no byte on a file system."""
    with contextlib.suppress(OSError), ballast.open("ab", buffering=0) as file:
        while file.write(bytes(4096)):
            pass
