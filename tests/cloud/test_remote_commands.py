"""Commands over the API: what is asked, what is answered, and what stays in the history."""

import base64
from collections.abc import Iterator
from typing import Any

import pytest

from cloud.messaging.commands import Commander
from cloud.messaging.intake import Arrival
from runtime import messages, pieces
from runtime.link import Received
from runtime.messages import Command, CommandResult
from runtime.topics import DeviceId
from tests.support import registries
from tests.support.registries import Registry

PATH = "/api/v1/devices/dev-a/commands"


@pytest.fixture
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registries.running(tmp_path_factory.mktemp("registry")) as made:
        made.enrol("dev-a")
        yield made


def told(registry: Registry) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = registry.get("/api/v1/events?kind=device.commanded")["items"]
    return items


def test_a_command_reaches_the_device_as_it_was_asked(registry: Registry) -> None:
    answer = CommandResult("c", ok=True, text="2 lines", facts={"next": "x-2"}, data=b"\x1f\x8b")
    asked = registry.answer_commands(answer)
    got = registry.post(PATH, {"kind": "logs", "module": "m", "options": {"since_s": "60"}})

    assert asked == [("dev-a", "logs", "m", None, 60.0, {"since_s": "60"})]
    assert (got["ok"], got["text"], got["facts"]) == (True, "2 lines", {"next": "x-2"})
    assert base64.b64decode(got["data"]) == b"\x1f\x8b"


def test_every_command_leaves_who_what_and_what_came_of_it(registry: Registry) -> None:
    registry.answer_commands(CommandResult("c", ok=True, text="up 3 days"))
    registry.post(PATH, {"kind": "exec", "options": {"name": "uptime"}})
    registry.answer_commands(CommandResult("c", ok=False, text="it is not allowed"))
    registry.post(PATH, {"kind": "exec", "options": {"name": "reboot"}})

    first, second = told(registry)
    assert (first["actor"], first["subject"]) == ("key:admin", "dev-a")
    assert first["data"] == {
        "command": "exec", "module": "", "options": {"name": "uptime"},
        "outcome": "done", "text": "up 3 days",
    }  # fmt: skip
    assert (second["data"]["outcome"], second["data"]["text"]) == ("refused", "it is not allowed")


def test_a_command_that_nobody_answers_is_in_the_history_too(registry: Registry) -> None:
    answer = registry.http.post(PATH, json={"kind": "logs"})  # this registry has no broker

    assert answer.status_code == 503
    (event,) = told(registry)
    assert event["data"]["outcome"] == "unknown"
    assert "has no broker" in event["data"]["text"]


def test_who_follows_logs_is_one_line_in_the_history(registry: Registry) -> None:
    registry.answer_commands(CommandResult("c", ok=True, facts={"next": "a-1"}))
    registry.post(PATH, {"kind": "logs"})
    for _ in range(3):
        registry.post(PATH, {"kind": "logs", "options": {"after": "a-1", "wait_s": "1"}})
    assert len(told(registry)) == 1

    registry.post(PATH, {"kind": "logs", "options": {"after": "a-made-up"}})
    registry.post(PATH, {"kind": "logs", "module": "m", "options": {"after": "a-1"}})

    assert len(told(registry)) == 3


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"kind": "reboot"}, "kind"),
        ({"kind": "logs", "options": {"level": "loud"}}, "options.level"),
        ({"kind": "exec"}, "name"),
        ({"kind": "infer"}, "name the module"),
        ({"kind": "check"}, "name the module"),
        ({"kind": "logs", "options": {str(n): "" for n in range(17)}}, "options"),
        ({"kind": "logs", "timeout_s": 301}, "timeout_s"),
    ],
)
def test_what_no_device_would_do_is_not_sent(
    registry: Registry, body: dict[str, Any], words: str
) -> None:
    asked = registry.answer_commands(CommandResult("c", ok=True))
    answer = registry.http.post(PATH, json=body)

    assert (answer.status_code, words in answer.json()["detail"]) == (422, True), answer.text
    assert asked == []


def test_an_answer_in_pieces_is_put_together_and_a_lost_piece_is_told() -> None:
    device, lost = DeviceId("dev-a"), [False]
    data = bytes(range(256)) * 2000

    def publish(_device: DeviceId, command: Command) -> None:
        cut = pieces.cut(CommandResult(command.id, ok=True, text="here", data=data))
        assert command.deadline_s in {5.0, 0.01}
        for piece in reversed(cut[lost[0] :]):
            message = Received("topic", messages.encode(piece), 1, retained=False, qos=0)
            commander.hear(Arrival(device, message, 1.0))

    commander = Commander(publish)

    assert commander.ask(device, "support", "", None, 5.0).data == data
    lost[0] = True
    with pytest.raises(Exception, match=r"3 of 4 pieces of the answer to 'support' came"):
        commander.ask(device, "support", "", None, 0.01)
