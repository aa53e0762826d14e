import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from cloud.errors import BusyError, WaitError
from cloud.messaging import commands
from cloud.messaging.commands import Commander
from cloud.messaging.intake import Arrival
from runtime import messages
from runtime.errors import LinkError
from runtime.link import Received
from runtime.messages import Command, CommandResult
from runtime.topics import DeviceId
from tests.support import registries
from tests.support.registries import Registry

A, B = DeviceId("dev-a"), DeviceId("dev-b")


def arrival(device: DeviceId, payload: bytes) -> Arrival:
    return Arrival(device, Received("topic", payload, 1, retained=False, qos=1), 1.0)


@dataclass
class Echo:
    """Devices that answer at once."""

    sender: DeviceId = A
    asked: list[Command] = field(default_factory=list)

    def __post_init__(self) -> None:  # noqa: D105 - a test's desk
        self.commander = Commander(self.publish)

    def publish(self, _device: DeviceId, command: Command) -> None:
        self.asked.append(command)
        self.commander.hear(arrival(self.sender, b"nonsense"))
        result = CommandResult(command.id, ok=True, text="p95 is 1.0 ms")
        self.commander.hear(arrival(self.sender, messages.encode(result)))


def test_whoever_asks_gets_the_devices_answer() -> None:
    echo = Echo()

    result = echo.commander.ask(A, messages.CHECK, "digits", None, 5.0)

    assert (result.ok, result.text) == (True, "p95 is 1.0 ms")
    assert [command.module for command in echo.asked] == ["digits"]


def test_another_device_cannot_answer() -> None:
    echo = Echo(sender=B)

    with pytest.raises(WaitError, match=r"dev-a: no answer to .check. within 0\.01 s"):
        echo.commander.ask(A, messages.CHECK, "digits", None, 0.01)


def test_an_answer_that_comes_too_late_is_dropped() -> None:
    echo = Echo()
    echo.commander.hear(arrival(A, messages.encode(CommandResult("gone", ok=True))))


def test_no_more_callers_wait_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commands, "MAX_WAITING", 1)
    asked, release = threading.Event(), threading.Event()

    def publish(_device: DeviceId, _command: Command) -> None:
        asked.set()
        release.wait(10)
        raise LinkError("gone")

    commander = Commander(publish)
    failures: list[BaseException] = []

    def first() -> None:
        try:
            commander.ask(A, messages.CHECK, "m", None, 5.0)
        except LinkError as error:
            failures.append(error)

    waiting = threading.Thread(target=first)
    waiting.start()
    assert asked.wait(10)
    with pytest.raises(BusyError):
        commander.ask(A, messages.CHECK, "m", None, 5.0)
    release.set()
    waiting.join(10)

    assert len(failures) == 1


@pytest.fixture
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registries.running(tmp_path_factory.mktemp("registry")) as made:
        yield made


def test_a_command_for_a_device_that_is_not_there_is_refused(registry: Registry) -> None:
    wish = {"kind": "check", "module": "digits"}
    assert registry.http.post("/api/v1/devices/none/commands", json=wish).status_code == 404


def test_a_registry_without_a_broker_says_so(registry: Registry) -> None:
    registry.enrol("dev-a")
    answer = registry.http.post(
        "/api/v1/devices/dev-a/commands", json={"kind": "check", "module": "digits"}
    )

    assert (answer.status_code, "has no broker" in answer.json()["detail"]) == (503, True)


def test_a_revoked_device_is_not_asked(registry: Registry) -> None:
    registry.enrol("dev-a")
    registry.post("/api/v1/devices/dev-a/revoke")
    answer = registry.http.post(
        "/api/v1/devices/dev-a/commands", json={"kind": "check", "module": "digits"}
    )

    assert answer.status_code == 409
