import threading
from collections.abc import Callable, Generator

import pytest

from edge_agent.worker import pump
from edge_agent.worker.pump import Pump
from edge_agent.worker.sources import Item, Source, SourceError
from runtime.errors import SpaceError
from tests.support.brokers import eventually

Give = Callable[[str | None], Generator[Item, None, None]]


class Scripted:
    """A source that does as it is told."""

    def __init__(self, give: Give) -> None:
        self._give = give

    def items(self, position: str | None) -> Generator[Item, None, None]:
        """Yield what the function gives."""
        return self._give(position)


class Rig:
    """A pump and what came out of it."""

    def __init__(self, give: Give) -> None:
        self.recorded: list[str] = []
        self.told: list[str] = []
        self.refuse = threading.Event()
        self.pump = Pump(
            "test:", open_source=self._open, consume=self._consume, tell=self.told.append
        )
        self._give = give

    def _open(self, _pump: Pump) -> Source:
        return Scripted(self._give)

    def _consume(self, item: Item) -> None:
        if self.refuse.is_set():
            raise SpaceError("spool", needed_bytes=1, free_bytes=0)
        self.recorded.append(item.name)


@pytest.fixture(autouse=True)
def try_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pump, "FIRST_WAIT_S", 0.001)
    monkeypatch.setattr(pump, "MOST_WAIT_S", 0.01)
    monkeypatch.setattr(pump, "JOIN_S", 0.05)


def item(n: int) -> Item:
    """The n-th item."""
    return Item(name=str(n), inputs={}, position=str(n))


def test_a_source_that_fails_goes_on_from_the_last_item_and_its_trouble_is_told_once() -> None:
    attempts: list[str | None] = []

    def give(position: str | None) -> Generator[Item, None, None]:
        attempts.append(position)
        if 3 <= len(attempts) < 6:
            raise SourceError("unplugged")
        start = int(position or 0)
        yield item(start + 1)
        if len(attempts) < 6:
            raise OSError("gone")

    rig = Rig(give)
    rig.pump.start(None)
    eventually(lambda: len(rig.recorded) == 3, "three items")
    rig.pump.stop()

    assert rig.recorded == ["1", "2", "3"]
    assert attempts[:3] == [None, "1", "2"]
    assert rig.told == ["gone", "", "gone", "unplugged", ""]


def test_whatever_a_source_raises_does_not_end_its_thread() -> None:
    attempts: list[str | None] = []

    def give(position: str | None) -> Generator[Item, None, None]:
        attempts.append(position)
        if len(attempts) < 3:
            raise ZeroDivisionError
        yield item(1)

    rig = Rig(give)
    rig.pump.start(None)
    eventually(lambda: rig.recorded == ["1"], "an item")
    rig.pump.stop()

    assert rig.told == ["test:: ZeroDivisionError: ", ""]


def test_an_item_that_the_spool_has_no_room_for_is_kept_in_hand_until_it_has() -> None:
    def give(_position: str | None) -> Generator[Item, None, None]:
        yield item(1)
        yield item(2)

    rig = Rig(give)
    rig.refuse.set()
    rig.pump.start(None)
    eventually(lambda: bool(rig.told), "trouble is told")
    assert rig.recorded == []
    rig.refuse.clear()
    eventually(lambda: len(rig.recorded) == 2, "both items")
    rig.pump.stop()

    assert rig.recorded == ["1", "2"]
    assert rig.told[-1] == ""


def test_a_full_spool_does_not_keep_a_source_from_stopping() -> None:
    def give(_position: str | None) -> Generator[Item, None, None]:
        yield item(1)

    rig = Rig(give)
    rig.refuse.set()
    rig.pump.start(None)
    eventually(lambda: bool(rig.told), "trouble is told")

    rig.pump.stop()

    assert rig.recorded == []


def test_nothing_is_recorded_after_a_stop_whatever_the_source_still_gives() -> None:
    waiting, go = threading.Event(), threading.Event()

    def give(_position: str | None) -> Generator[Item, None, None]:
        yield item(1)
        waiting.set()
        go.wait(30)
        yield item(2)

    rig = Rig(give)
    rig.pump.start(None)
    assert waiting.wait(30)
    rig.pump.stop()
    go.set()
    thread = rig.pump._thread
    assert thread is not None
    thread.join(30)

    assert rig.recorded == ["1"]


def test_a_source_that_has_ended_is_not_started_again() -> None:
    starts: list[str | None] = []

    def give(position: str | None) -> Generator[Item, None, None]:
        starts.append(position)
        yield item(1)

    rig = Rig(give)
    rig.pump.start("0")
    thread = rig.pump._thread
    assert thread is not None
    thread.join(30)

    assert starts == ["0"]
