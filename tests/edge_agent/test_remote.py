"""Remote operations on the device, without a registry: the desk and what does the work."""

import gzip
import io
import json
import logging
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from edge_agent import settings
from edge_agent.commands import Commands as Taker
from edge_agent.mind import events
from edge_agent.mind.modules import Module, Stage, Worker
from edge_agent.mind.states import State
from edge_agent.remote import support
from edge_agent.remote.commanded import Commands
from edge_agent.remote.desk import MAX_BUSY, Asked, Desk, Operation, Outcome
from edge_agent.remote.reading import Inference, Logs
from edge_agent.remote.restarting import Restarting
from edge_agent.remote.ring import Ring
from edge_agent.remote.support import Support
from edge_agent.status import Status
from runtime import digests, messages
from runtime.batches import Record
from runtime.clock import SystemClock
from runtime.errors import InvalidError, LinkError
from runtime.messages import Command, CommandResult, ModuleSpec, Reported
from runtime.pieces import MAX_ANSWER_BYTES, PIECE_BYTES, Assembly
from tests.support.brokers import eventually

SPEC = ModuleSpec("digits", digests.of_bytes(b"bundle"), "digits", 3, "d1")


@dataclass
class Bench:
    """A desk, and what it has told."""

    operations: dict[str, Operation]
    told: list[CommandResult] = field(default_factory=list)
    whole: dict[str, CommandResult] = field(default_factory=dict)

    def __post_init__(self) -> None:  # noqa: D105 - a test's bench
        self.ring = Ring()
        self.desk = Desk(self.operations, self._tell, self.ring)
        self._pieces: dict[str, Assembly] = {}

    def _tell(self, piece: CommandResult) -> None:
        self.told.append(piece)
        whole = self._pieces.setdefault(piece.id, Assembly()).add(piece)
        if whole is not None:
            self.whole[piece.id] = whole

    def ask(
        self, kind: str, *, module: str = "", deadline_s: float = 20.0, **options: str
    ) -> CommandResult:
        """Return what comes of a command."""
        name = f"c{len(self.whole)}"
        command = Command(name, kind, module, deadline_s=deadline_s, options=options)
        self.desk.take(command)
        eventually(lambda: name in self.whole, f"{kind} is answered")
        return self.whole[name]


def commands(**allowed: tuple[str, ...]) -> Bench:
    return Bench({"exec": Commands(allowed).run})


def test_a_command_that_the_device_allows_is_run_without_a_shell() -> None:
    bench = commands(say=("/bin/echo", "$HOME", "; reboot"))
    result = bench.ask("exec", name="say")

    assert (result.ok, result.data) == (True, b"$HOME ; reboot\n")
    assert (result.text, result.facts) == ("say ended with code 0", {"code": "0"})


def test_a_command_that_the_device_does_not_allow_is_refused() -> None:
    result = commands(say=("/bin/echo",)).ask("exec", name="reboot")

    assert not result.ok
    assert "this device allows say (remote_commands in its agent.toml)" in result.text


def test_no_command_is_allowed_unless_somebody_at_the_device_says_so() -> None:
    assert settings.of({}).remote_commands == {}
    assert "this device allows none" in commands().ask("exec", name="uptime").text


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"up": ["uptime"]}, r"remote_commands\.up: \['uptime'\] is not accepted: .*absolute path"),
        ({"up": []}, "absolute path"),
        ({"Up Time": ["/usr/bin/uptime"]}, "name commands with"),
    ],
)
def test_a_command_that_could_be_another_one_tomorrow_is_no_setting(
    value: object, words: str
) -> None:
    with pytest.raises(InvalidError, match=words):
        settings.of({"remote_commands": value})


def test_a_command_that_fails_says_so_with_what_it_printed() -> None:
    code = "import sys; print('no disk'); sys.exit(3)"
    result = commands(check=(sys.executable, "-c", code)).ask("exec", name="check")

    assert (result.ok, result.data) == (False, b"no disk\n")
    assert result.text == "check ended with code 3"


def test_a_command_gets_nothing_of_the_agents_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PACKHORSE_AGENT_TOKEN", "hush")

    assert b"hush" not in commands(env=("/usr/bin/env",)).ask("exec", name="env").data


def test_a_command_that_takes_longer_than_anybody_waits_is_killed_with_its_children() -> None:
    code = "import os, time; os.fork(); print('on', flush=True); time.sleep(60)"
    began = time.monotonic()
    bench = commands(slow=(sys.executable, "-c", code))
    result = bench.ask("exec", deadline_s=2.5, name="slow")

    assert time.monotonic() - began < 10
    assert not result.ok
    assert "whoever asked waits no longer" in result.text


def test_a_command_that_prints_without_end_is_cut_off() -> None:
    result = commands(flood=("/usr/bin/yes",)).ask("exec", name="flood")

    assert (result.ok, len(result.data)) == (False, 1 << 20)
    assert "printed over" in result.text


def test_a_program_that_is_not_there_is_told() -> None:
    result = commands(gone=("/no/such/program",)).ask("exec", name="gone")

    assert not result.ok
    assert "No such file" in result.text


def test_no_more_operations_run_at_once_than_the_device_has_room_for() -> None:
    release = threading.Event()
    bench = Bench({"support": lambda _asked: Outcome(str(release.wait(20)))})
    for number in range(MAX_BUSY + 1):
        bench.desk.take(Command(f"b{number}", "support"))
    refused = [result.text for result in bench.told]
    release.set()
    eventually(lambda: len(bench.whole) == MAX_BUSY + 1, "all are answered")

    assert refused == [f"{MAX_BUSY} operations are under way here: try again later"]


def test_a_bug_in_an_operation_is_told_and_ends_nothing() -> None:
    def broken(_asked: Asked) -> Outcome:
        raise ZeroDivisionError

    bench = Bench({"support": broken})

    assert "the agent has a bug" in bench.ask("support").text
    assert "the agent has a bug" in bench.ask("support").text


def test_a_large_answer_goes_out_in_pieces_and_one_too_large_is_refused() -> None:
    sizes = iter([3 * PIECE_BYTES, MAX_ANSWER_BYTES + 1])
    bench = Bench({"support": lambda _asked: Outcome("here", b"x" * next(sizes))})

    assert len(bench.ask("support").data) == 3 * PIECE_BYTES
    assert [piece.piece for piece in bench.told] == [0, 1, 2]
    assert "answer at most" in bench.ask("support").text


def test_options_of_another_kind_are_refused() -> None:
    assert "options" in commands().ask("exec", colour="red").text


def test_what_the_operator_has_not_allowed_is_unknown_here() -> None:
    told: list[CommandResult] = []
    desk = Desk({}, told.append, Ring())
    Taker(lambda _effect: None, told.append, desk).take(
        messages.encode(Command("c", "logs")), State()
    )

    assert "no command 'logs': see remote_operations" in told[0].text


def test_an_answer_that_nobody_hears_ends_nothing() -> None:
    gone = threading.Event()

    def deaf(_piece: CommandResult) -> None:
        gone.set()
        raise LinkError("not connected")

    Desk({"support": lambda _asked: Outcome("x")}, deaf, Ring()).take(Command("c", "support"))

    assert gone.wait(20)


# -- logs


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring()
    made.attach()
    yield made
    made.detach()


@pytest.fixture
def logs(ring: Ring, tmp_path: Path) -> Bench:
    return Bench({"logs": Logs(ring, tmp_path / "logs", SystemClock())})


def texts(result: CommandResult) -> list[str]:
    assert result.ok, result.text
    return gzip.decompress(result.data).decode().splitlines() if result.data else []


def test_logs_are_the_agents_newest_lines_by_level(logs: Bench) -> None:
    logging.getLogger("test.quiet").error("disk is full")
    logging.getLogger("test.quiet").warning("slow")

    (line,) = texts(logs.ask("logs", level="error"))
    assert line.endswith("ERROR test.quiet: disk is full")
    assert len(texts(logs.ask("logs", level="warning", lines="1"))) == 1


def test_who_follows_is_answered_when_a_line_comes(logs: Bench) -> None:
    following = logs.ask("logs").facts["next"]
    asked = Command("f", "logs", options={"after": following, "wait_s": "20", "level": "error"})
    logs.desk.take(asked)
    assert "f" not in logs.whole
    logging.getLogger("test.quiet").error("now")
    eventually(lambda: "f" in logs.whole, "the follower is told")

    assert [line.rpartition(" ")[2] for line in texts(logs.whole["f"])] == ["now"]


def test_who_follows_nothing_is_answered_in_time(logs: Bench) -> None:
    following = logs.ask("logs").facts["next"]
    result = logs.ask("logs", deadline_s=2.2, after=following, wait_s="60", level="error")

    assert (texts(result), bool(result.facts["next"])) == ([], True)


def test_logs_of_a_module_are_what_its_worker_printed(logs: Bench, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "digits.log").write_text("hello\n")

    assert texts(logs.ask("logs", module="digits")) == ["hello"]


@pytest.mark.parametrize("module", ["other", "../identity/device", "a/b", "."])
def test_a_module_that_is_none_has_no_logs(logs: Bench, module: str) -> None:
    assert not logs.ask("logs", module=module).ok


# -- the last prediction


def test_the_last_prediction_of_a_module_can_be_read() -> None:
    record = Record(1.0, "digits", "b", "m", 3, 2.5, outputs={"y": [1]}, request="r7")
    bench = Bench({"infer": Inference({"digits": record}.get)})

    assert json.loads(bench.ask("infer", module="digits").data)["request"] == "r7"
    assert "no prediction" in bench.ask("infer", module="other").text


# -- restart


def serving(slot: int, stage: Stage = Stage.SERVING) -> State:
    return State(modules=(Module("digits", active=Worker(slot, SPEC, stage=stage)),))


def test_a_restart_is_done_when_another_process_answers() -> None:
    states = iter([serving(7), serving(7), serving(8, Stage.STARTING), serving(8)])
    asked: list[events.Event | events.News] = []
    bench = Bench({"restart": Restarting(lambda: next(states), asked.append)})

    assert bench.ask("restart", module="digits").ok
    assert asked == [events.RestartAsked("digits")]


def test_a_restart_that_takes_too_long_says_so() -> None:
    bench = Bench({"restart": Restarting(lambda: serving(7), lambda _event: None)})

    assert "does not answer yet" in bench.ask("restart", module="digits", deadline_s=1.3).text


def test_what_does_not_answer_is_not_restarted() -> None:
    bench = Bench({"restart": Restarting(State, lambda _event: None)})

    assert "answers no inference now" in bench.ask("restart", module="digits").text


def test_the_agent_ends_only_after_it_has_answered() -> None:
    asked: list[events.Event | events.News] = []
    restarting = Restarting(State, asked.append)
    bench = Bench({"restart": restarting})

    assert bench.ask("restart").ok
    eventually(lambda: asked == [events.StopAsked()], "it ends")
    assert restarting.again


# -- support


def archive(result: CommandResult) -> dict[str, bytes]:
    assert result.ok, result.text
    with tarfile.open(fileobj=io.BytesIO(result.data)) as opened:
        found = {}
        for member in opened.getmembers():
            file = opened.extractfile(member)
            assert file is not None
            found[member.name.removeprefix("support/")] = file.read()
        return found


@pytest.fixture
def helped(ring: Ring, tmp_path: Path) -> Bench:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "digits.log").write_text("hello from https://me:hunter2@host/\n")
    (tmp_path / "identity").mkdir()
    (tmp_path / "identity" / "device.key").write_text("-----BEGIN PRIVATE KEY----- hunter2")
    (tmp_path / "journal.json").write_text(
        '{"saved": {"env": {"A": "hunter2"}, "registry_password": "hunter2", "generation": 7}}'
    )
    status = Status(1, connected=True, link="", reported=Reported("dev-a", 7, 1.0))
    chosen = settings.of({"remote_commands": {"x": ["/bin/x", "hunter2"]}})
    return Bench(
        {"support": Support(tmp_path, chosen, lambda: status, Logs(ring, tmp_path / "logs",
                                                                   SystemClock()))}
    )  # fmt: skip


def test_a_support_archive_has_what_helps_and_no_secret(helped: Bench) -> None:
    logging.getLogger("test.support").error("it broke")
    found = archive(helped.ask("support"))

    assert {"status.json", "settings.json", "journal.json", "system.json"} <= set(found)
    assert b"it broke" in found["logs/agent.log"]
    assert b"hello from https://***@host/" in found["logs/module-digits.log"]
    assert json.loads(found["journal.json"])["saved"]["generation"] == 7
    assert json.loads(found["settings.json"])["remote_commands"] == ["x"]
    assert b"hunter2" not in b"".join(found.values())


def test_a_support_archive_that_is_too_large_has_shorter_logs(
    helped: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = "".join(f"{digests.of_bytes(str(number).encode())}\n" for number in range(4000))
    (tmp_path / "logs" / "digits.log").write_text(noise)
    monkeypatch.setattr(support.pieces, "MAX_ANSWER_BYTES", 60_000)
    result = helped.ask("support")

    assert len(result.data) <= 60_000
    assert archive(result)["logs/module-digits.log"].endswith(noise.strip()[-64:].encode())


def test_what_is_secret_is_known_by_its_name() -> None:
    plain = {
        "token": "a", "api_key": "b", "keepalive_s": 3, "nested": [{"Password": "c", "ok": "d"}],
        "url": "https://u:p@h/x", "credentials": {"user": "e"}, "empty_token": "",
    }  # fmt: skip

    assert support.redacted(plain) == {
        "token": "***", "api_key": "***", "keepalive_s": 3,
        "nested": [{"Password": "***", "ok": "d"}], "url": "https://***@h/x",
        "credentials": "***", "empty_token": "",
    }  # fmt: skip
    assert msgspec.json.encode(support.redacted(plain))
