"""A server's scripts crash, hang, print, exit, return junk and allocate; only their own calls fail.

The script does what the first value of its input says.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from runtime.bundle.build import build
from runtime.errors import InvalidError, ModelError
from runtime.inference.tensors import Arrays
from runtime.serving import loading
from runtime.serving.dataplane import DataPlane
from runtime.serving.errors import NotReadyError
from runtime.serving.scripts import process
from runtime.serving.scripts.isolated import Isolated
from tests.support import scripts
from tests.support.brokers import eventually

GOOD, CRASH, HANG, JUNK, RAISE, EXIT, ALLOCATE, FILL, HOLD, ODD = range(10)
SCRIPT = """
import ctypes, os, sys, time
import numpy as np

def run(inputs):
    x = inputs["x"]
    print("a script may print", flush=True)
    match int(x[0, 0]):
        case 1: os._exit(3)
        case 2: time.sleep(600)
        case 3: return [1, 2]
        case 4: raise KeyError("no such thing")
        case 5: sys.exit(0)
        case 6: return {"y": np.ones(1 << 40, np.float32)}
        case 7: os.write(1, b"x" * 100_000)
        case 8: ctypes.PyDLL(None).sleep(600)  # with the interpreter's lock held
        case 9: return {"y": np.array([object()])}
    return {"y": x.sum(axis=1)}
"""
LIMITS = "resources: {timeout_s: 1.5, memory_mb: 64}\n"
ASYNC = """
import asyncio, os, time

async def init(context):
    global lock
    lock = asyncio.Lock()

async def run(inputs):
    x = inputs["x"]
    match int(x[0, 0]):
        case 1:
            await asyncio.sleep(0.1)
            os._exit(3)
        case 2: await asyncio.sleep(600)
        case 3: time.sleep(600)
    await asyncio.sleep(0.2)
    async with lock:
        return {"y": x.sum(axis=1)}
"""


def ask(model: Isolated, what: int) -> list[float]:
    """Return the answer to an input that begins with this number."""
    answer: list[float] = model.predict(inputs(what))["y"].tolist()
    return answer


def inputs(what: int) -> Arrays:
    x = np.zeros((1, 4), np.float32)
    x[0, 0] = what
    return {"x": x}


def load(directory: Path, script: str, yaml: str = LIMITS) -> Isolated:
    scripts.write(directory, script=script, yaml=scripts.SIGNATURE + yaml)
    return Isolated(directory, build(directory).index)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Isolated]:
    model = load(tmp_path_factory.mktemp("script"), SCRIPT)
    yield model
    model.close()


@pytest.mark.parametrize(
    ("what", "says"),
    [
        (CRASH, r"total: its process ended \(exit code 3\)"),
        (HANG, r"total: run took longer than 1\.5 seconds and was stopped"),
        (JUNK, "score.py: run gave list: return a dict by output name"),
        (RAISE, "score.py: run raised KeyError: 'no such thing'"),
        (EXIT, "score.py: run raised SystemExit: 0"),
        (ALLOCATE, r"(?i)unable to allocate|out of memory"),
        (HOLD, r"total: run took longer than 1\.5 seconds and was stopped"),
        (ODD, "score.py|run gave"),
    ],
)
def test_a_script_fails_its_own_call_and_answers_the_next(
    model: Isolated, what: int, says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        ask(model, what)

    assert ask(model, GOOD) == [0.0]


def test_what_a_script_prints_disturbs_no_answer(model: Isolated) -> None:
    assert ask(model, FILL) == [7.0]


def test_a_process_that_was_killed_from_outside_is_started_again(model: Isolated) -> None:
    ask(model, GOOD)
    pid = model.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: model.pid not in {None, pid}, "a new process")

    assert ask(model, GOOD) == [0.0]


def test_calls_beside_one_that_crashes_or_hangs_are_answered(tmp_path: Path) -> None:
    model = load(tmp_path, ASYNC, "resources: {timeout_s: 2.5}\n")
    try:
        for bad, says in (
            (CRASH, "process ended (exit code 3)"),
            (HANG, "run took longer"),
            (JUNK, "run took longer"),  # its event loop hangs, and with it all calls
        ):
            outcomes = together([lambda w=what: ask(model, w) for what in (GOOD, bad, 5, 7)])

            assert [outcomes[n] for n in (0, 2, 3)] == [[0.0], [5.0], [7.0]]
            assert isinstance(outcomes[1], ModelError)
            assert says in str(outcomes[1])
    finally:
        model.close()


def test_who_gave_up_last_beside_one_that_hangs_is_asked_again_like_the_first(
    tmp_path: Path,
) -> None:
    """All are cancelled in one moment; whoever is slowest to give up is no more to blame."""
    model = load(tmp_path, ASYNC, "resources: {timeout_s: 1.5}\n")
    try:
        outcomes = together([lambda w=what: ask(model, w) for what in (JUNK, *[GOOD] * 15)])
    finally:
        model.close()

    assert isinstance(outcomes[0], ModelError)
    assert outcomes[1:] == [[0.0]] * 15


def test_who_came_after_one_that_hangs_is_not_blamed_once_that_one_has_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "CANCEL_S", 0.01)
    model = load(tmp_path, ASYNC, "resources: {timeout_s: 1.5}\n")

    def later(what: int) -> list[float]:
        time.sleep(0.4)  # its time is not up when the first gives up
        return ask(model, what)

    try:
        hung, after = together([lambda: ask(model, JUNK), lambda: later(GOOD)])
    finally:
        model.close()

    assert isinstance(hung, ModelError)
    assert after == [0.0]


def test_a_script_that_does_not_load_any_more_is_retried_ever_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "PATIENCE_S", 0.05)
    flag = tmp_path / "broken"
    script = f"import os\nif os.path.exists({str(flag)!r}): os._exit(7)\n{SCRIPT}"
    model = load(tmp_path / "bundle", script)
    try:
        ask(model, GOOD)
        flag.touch()
        with pytest.raises(ModelError):
            ask(model, CRASH)
        eventually(lambda: refuses(model), "a wait that is longer than a call's patience")
        flag.unlink()
        eventually(lambda: outcome(lambda: ask(model, GOOD)) == [0.0], "an answer")
    finally:
        model.close()


def test_what_does_not_load_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"score.py: import raised ImportError: no driver"):
        load(tmp_path / "a", "raise ImportError('no driver')")
    with pytest.raises(ModelError, match=r"its process ended \(signal SIGABRT\)"):
        load(tmp_path / "b", "import os; os.abort()")


def test_scripts_do_not_see_the_servers_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PACKHORSE_TOKEN", "secret")
    script = "import os\ndef run(inputs): return {'y': [sum(k[:4] == 'PACK' for k in os.environ)]}"
    model = load(tmp_path, script)

    assert ask(model, GOOD) == [0.0]
    model.close()


def test_two_scripts_do_not_meet_though_their_modules_have_one_name(tmp_path: Path) -> None:
    plane = DataPlane()
    for name, factor in (("one", 1), ("two", 2)):
        directory = scripts.write(
            tmp_path / name,
            script="import helper\ndef run(i): return {'y': i['x'].sum(axis=1) * helper.FACTOR}",
            yaml=scripts.SIGNATURE,
        )
        (directory / "helper.py").write_text(f"FACTOR = {factor}\n")
        plane.add(name, "1", *loading.load(directory, build(directory).index))

    async def both() -> list[float]:
        return [
            float((await plane.run(plane.find(name), inputs(4)))["y"][0]) for name in ("one", "two")
        ]

    assert asyncio.run(both()) == [4.0, 8.0]
    plane.close()


def test_outputs_that_a_script_does_not_give_are_refused_by_name(model: Isolated) -> None:
    with pytest.raises(InvalidError, match="outputs: 'z' is not accepted: the model gives y"):
        model.predict(inputs(GOOD), ["z"])


def test_a_closed_one_is_not_ready(tmp_path: Path) -> None:
    model = load(tmp_path, SCRIPT)
    pid = model.pid
    model.close()
    eventually(lambda: model.pid is None, "its end")

    with pytest.raises(NotReadyError, match="unloaded"):
        ask(model, GOOD)
    assert pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def refuses(model: Isolated) -> bool:
    """Say whether calls are told to come again."""
    return isinstance(outcome(lambda: ask(model, GOOD)), NotReadyError)


def outcome(function: Callable[[], object]) -> object:
    """Return what a function returns or raises."""
    try:
        return function()
    except (ModelError, NotReadyError) as error:
        return error


def together(functions: list[Callable[[], object]]) -> list[object]:
    """Return the outcomes of functions that run side by side."""
    found: list[object] = [None] * len(functions)

    def run(place: int) -> None:
        found[place] = outcome(functions[place])

    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
