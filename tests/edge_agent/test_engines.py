"""Engines that TensorRT builds: where they are, when they are swept, how their building shows."""

import os
import threading
from pathlib import Path

from edge_agent.bundles import engines
from edge_agent.bundles.engines import Kept
from edge_agent.mind import events, states
from edge_agent.worker import engines as building
from runtime.inference.providers import Board
from runtime.messages import Phase
from tests.support import models, worlds
from tests.support.worlds import World

BOARD = Board(onnxruntime="1", tensorrt="2", gpu="3")


def kept(name: str, used_at: float, *bundles: str) -> Kept:
    return Kept(name, 10, used_at, frozenset(bundles))


def test_engines_above_the_cap_go_first_used_first_but_never_one_that_is_needed() -> None:
    known = [kept("new", 3, "x"), kept("old", 1, "y"), kept("needed", 0, "z"), kept("mid", 2)]

    assert engines.superfluous(known, {"z"}, 40) == []
    assert engines.superfluous(known, {"z"}, 25) == ["old", "mid"]
    assert engines.superfluous(known, {"z"}, 0) == ["old", "mid", "new"]


def test_engines_are_swept_from_the_disk_by_who_uses_them(tmp_path: Path) -> None:
    index = models.install(tmp_path / "b", models.linear_model())
    root = tmp_path / "engines"
    mine = building.place(root, tmp_path / "b", index, "mine", BOARD)
    other = building.place(root, tmp_path / "b", index, "other", Board("1", "2", "another"))
    for place in (mine, other):
        (place / "a.engine").write_bytes(bytes(1000))
    os.utime(other, (1, 1))

    assert building.place(root, tmp_path / "b", index, "second", BOARD) == mine
    assert engines.collect(root, {"second"}, 500) == 1
    assert [path.name for path in root.iterdir()] == [mine.name]
    assert engines.collect(tmp_path / "nothing", set(), 0) == 0


def test_building_an_engine_is_told_and_loading_one_is_not(tmp_path: Path) -> None:
    told: list[str] = []
    twice = threading.Event()

    def tell(text: str) -> None:
        told.append(text)
        if len(told) > 1:
            twice.set()

    with building.telling(tmp_path, tell, every_s=0.001):
        assert twice.wait(30)
        (tmp_path / "a.engine").write_bytes(b"")
    count = len(told)
    with building.telling(tmp_path, tell, every_s=0.001):
        pass

    assert told[0].startswith("building the engine for this board: 0 s")
    assert len(told) == count


def building_one() -> World:
    """Return a device whose new version builds its engine, while the old one answers."""
    world = World(states.Limits(start_timeout_s=100.0, engine_timeout_s=3000.0))
    world.want(worlds.spec("a"))
    world.run()
    world.want(worlds.spec("b"))
    while not any(each.spec.bundle[0] == "b" for each in world.processes.values()):
        world.advance(1, timers=False)
    world.tell(events.WorkerWarming("m", world.slot("b"), "building the engine: 1 s"))
    return world


def test_an_engine_is_built_before_the_switch_with_more_time_and_its_progress_is_reported() -> None:
    """Evidence, row 42: the first run of an engine blocks for minutes without a word."""
    world = building_one()
    (timer,) = [each for each in world.timers.values() if each.key.slot == world.slot("b")]
    world.tell(events.WorkerWarming("m", world.slot("b"), "building the engine: 11 s"))

    assert timer.delay_s == 3000.0
    assert world.answering() == {"a"}
    assert (world.report().phase, world.report().reason) == (
        Phase.CHECKING,
        "building the engine: 11 s",
    )

    world.run()

    assert world.answering() == {"b"}
    assert world.report().reason == ""


def test_an_engine_that_is_never_done_is_refused_in_the_end() -> None:
    world = building_one()

    world.fire("start")

    assert "the engine was not built within 3000 s (engine_timeout_s)" in world.report().reason
    assert world.answering() == {"a"}
