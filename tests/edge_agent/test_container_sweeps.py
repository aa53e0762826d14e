"""What is left of a container module is removed, however long its engine is away."""

import threading
from pathlib import Path
from typing import Any

import pytest

from edge_agent.containers import supervisor
from edge_agent.containers.remembered import RememberedModules
from edge_agent.containers.supervisor import ContainerSupervisor
from edge_agent.mind.turn import Limits
from runtime.bundle.containers import Group
from runtime.containers.errors import EngineRefusedError, EngineUnreachableError
from runtime.containers.specs import ContainerSeen
from tests.support.brokers import eventually
from tests.support.worlds import spec

LEFT = ContainerSeen("id", "packhorse-camera-main-abcd", "sha256:i", "camera", {}, "exited")


class Leftovers:
    """An engine that has a container, a network and a volume of a module."""

    def __init__(self) -> None:
        self.held = {"container": LEFT.id, "network": "net", "volume": "cache"}

    def containers(self, _labels: object) -> tuple[ContainerSeen, ...]:
        return (LEFT,) if "container" in self.held else ()

    def networks(self, _labels: object) -> tuple[str, ...]:
        return ("net",) if "network" in self.held else ()

    def volumes(self, _labels: object) -> tuple[str, ...]:
        return ("cache",) if "volume" in self.held else ()

    def remove(self, _container: str) -> None:
        del self.held["container"]

    def remove_network(self, _name: str) -> None:
        del self.held["network"]

    def remove_volume(self, _name: str) -> None:
        del self.held["volume"]


class Door:
    """The way to it, which fails as often as there are errors."""

    def __init__(self, engine: Leftovers, errors: list[Exception]) -> None:
        self._engine, self._errors = engine, errors
        self.asked = self.dropped = 0

    def engine(self) -> Leftovers:
        self.asked += 1
        if self._errors:
            raise self._errors.pop()
        return self._engine

    def drop(self) -> None:
        self.dropped += 1

    def close(self) -> None:
        """Nothing is open."""


def minding(tmp_path: Path, door: Any) -> ContainerSupervisor:
    """Return a supervisor that has just begun."""
    return ContainerSupervisor(
        tmp_path,
        "dev-a",
        notes=tmp_path / "notes",
        door=door,
        limits=Limits(),
        put=lambda _event: None,
        engine_trouble=lambda _text: None,
    )


def sweeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, errors: list[Exception], first_s: float
) -> tuple[ContainerSupervisor, Leftovers, Any]:
    """Have a supervisor forget a module that left things behind."""
    monkeypatch.setattr(supervisor, "AGAIN_S", first_s)
    engine = Leftovers()
    door: Any = Door(engine, errors)
    made = minding(tmp_path, door)
    made.forget("camera")
    return made, engine, door


def test_what_is_left_of_a_module_is_removed_when_the_engine_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = EngineUnreachableError("the engine does not answer")
    busy = EngineRefusedError("list", status=500, said="context deadline exceeded")

    made, engine, door = sweeping(tmp_path, monkeypatch, [away, busy, away], 0.01)

    eventually(lambda: not engine.held, "nothing is left")
    assert (door.asked, door.dropped) == (4, 2), "a connection that broke is made anew"
    made.leave(1.0)


def test_an_agent_that_ends_waits_for_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors: list[Exception] = [EngineUnreachableError("away") for _ in range(100)]
    made, engine, door = sweeping(tmp_path, monkeypatch, errors, 3600.0)
    eventually(lambda: door.asked == 1, "it was tried")

    made.leave(1.0)

    assert engine.held
    assert door.asked <= 2, "at most one more began in that moment"


@pytest.mark.parametrize(("there", "left"), [({"light"}, 0), ({"camera", "light"}, 3)])
def test_what_a_killed_agent_left_of_a_module_that_is_gone_is_removed_by_the_next(
    tmp_path: Path, there: set[str], left: int
) -> None:
    remembered = RememberedModules(tmp_path / "notes")
    remembered.add("camera")
    engine = Leftovers()
    door: Any = Door(engine, [])
    made = minding(tmp_path, door)

    made.forget_others(there)

    eventually(lambda: remembered.names() == there & {"camera"}, "nothing else is remembered")
    assert (len(engine.held), door.asked) == (left, 1 if left == 0 else 0)
    made.leave(1.0)


class Minder:
    """What stands for the containers of a module that runs."""

    def __init__(self, _slot: int, origin: Any, _group: Group, *, yard: Any, **_rest: Any) -> None:
        self.module = origin.module
        yard.enter(self)

    def order(self, _order: object) -> None:
        """Nothing to do."""

    def join(self, _timeout_s: float) -> bool:
        return False


def test_a_module_that_is_wanted_again_while_its_leavings_go_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "ContainerMinder", Minder)
    remembered = RememberedModules(tmp_path / "notes")
    remembered.add("camera")
    engine, swept = Leftovers(), threading.Event()

    def remove(_name: str) -> None:
        del engine.held["volume"]
        made.start(1, spec("a", module="camera"), Group(()))
        swept.set()

    monkeypatch.setattr(engine, "remove_volume", remove)
    made = minding(tmp_path, Door(engine, []))

    made.forget("camera")

    assert swept.wait(10)
    eventually(
        lambda: not [one for one in threading.enumerate() if one.name == "sweep-camera"],
        "the sweep is over",
    )
    assert remembered.names() == {"camera"}
    made.leave(1.0)
