from dataclasses import dataclass, field

import pytest

from edge_agent.commands import MAX_WAITING, Commands
from edge_agent.mind import effects, events
from edge_agent.mind.effects import Effect
from edge_agent.mind.modules import Module, Stage, Worker
from edge_agent.mind.states import State
from runtime import digests, messages
from runtime.errors import InvalidError, LinkError
from runtime.messages import Command, CommandResult, ModuleSpec

BUNDLE, OTHER = digests.of_bytes(b"bundle"), digests.of_bytes(b"other")
SPEC = ModuleSpec("digits", BUNDLE, "digits", 3, "d1")


@dataclass
class Desk:
    done: list[Effect] = field(default_factory=list)
    told: list[CommandResult] = field(default_factory=list)
    state: State = field(default_factory=lambda: serving(Stage.SERVING))

    def __post_init__(self) -> None:  # noqa: D105 - a test's desk
        self.commands = Commands(self.done.append, self.told.append)

    def ask(self, **fields: object) -> None:
        command = Command(**{"id": "c1", "kind": messages.CHECK, "module": "digits"} | fields)  # type: ignore[arg-type] # fields of a message
        self.commands.take(messages.encode(command), self.state)


def serving(stage: Stage) -> State:
    return State(modules=(Module("digits", active=Worker(7, SPEC, stage=stage)),))


def test_a_check_is_run_by_the_worker_that_answers_and_its_result_is_told() -> None:
    desk = Desk()
    desk.ask(bundle=BUNDLE)
    assert desk.done == [effects.RunCheck("digits", 7)]

    assert desk.commands.checked(events.WorkerChecked("digits", 7, ok=False, text="y differs"))

    assert desk.told == [CommandResult("c1", ok=False, text="y differs", bundle=BUNDLE)]


def test_a_check_that_nobody_asked_for_is_the_minds_own() -> None:
    desk = Desk()
    desk.ask()

    assert not desk.commands.checked(events.WorkerChecked("digits", 8, ok=True, text=""))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kind": "reboot"}, "no command 'reboot'"),
        ({"module": "other"}, "no module 'other' answers"),
        ({"bundle": OTHER}, "runs digits:3, which is another bundle"),
    ],
    ids=["kind", "module", "bundle"],
)
def test_what_cannot_be_done_is_said_at_once(fields: dict[str, object], words: str) -> None:
    desk = Desk()
    desk.ask(**fields)

    assert desk.done == []
    assert [(result.ok, words in result.text) for result in desk.told] == [(False, True)]


def test_a_worker_that_does_not_serve_yet_is_not_asked() -> None:
    desk = Desk(state=serving(Stage.CHECKING))
    desk.ask()

    assert desk.done == []
    assert "no module 'digits' answers" in desk.told[0].text


def test_a_worker_that_ends_ends_the_commands_that_wait_for_it() -> None:
    desk = Desk()
    desk.ask(id="c1")
    desk.ask(id="c2")
    desk.commands.ended(events.WorkerExited("digits", 7, "killed by SIGKILL"))

    assert [result.id for result in desk.told] == ["c1", "c2"]
    assert all("killed by SIGKILL" in result.text for result in desk.told)
    assert not desk.commands.checked(events.WorkerChecked("digits", 7, ok=True, text=""))


def test_no_more_commands_wait_than_there_is_room_for() -> None:
    desk = Desk()
    for number in range(MAX_WAITING + 1):
        desk.ask(id=f"c{number}")

    assert len(desk.done) == MAX_WAITING
    assert [result.id for result in desk.told] == [f"c{MAX_WAITING}"]


def test_an_answer_that_nobody_hears_ends_nothing() -> None:
    def deaf(_result: CommandResult) -> None:
        raise LinkError("not connected")

    commands = Commands(lambda _effect: None, deaf)
    commands.take(messages.encode(Command("c1", "reboot")), State())


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b'{"id":1}', b'{"id":"%s","kind":"check"}' % (b"x" * 200)]
)
def test_nonsense_is_refused(payload: bytes) -> None:
    with pytest.raises(InvalidError):
        Desk().commands.take(payload, State())
