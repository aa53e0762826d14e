import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.journal import Journal
from edge_agent.mind.states import SavedState
from runtime import files
from tests.support.worlds import World, spec


def states_of_a_deployment() -> list[SavedState]:
    """Return every durable state that a device goes through in two deployments."""
    world = World()
    seen = [world.journal]
    for letter in "ab":
        world.want(spec(letter))
        while not world.advance(1, timers=False):
            if world.journal != seen[-1]:
                seen.append(world.journal)
    return seen


STATES = states_of_a_deployment()


def test_a_journal_gives_back_what_was_written(tmp_path: Path) -> None:
    for state in STATES:
        Journal(tmp_path).write(state)
        assert Journal(tmp_path).read() == (state, "")


def test_a_first_start_has_an_empty_state_and_no_trouble(tmp_path: Path) -> None:
    assert Journal(tmp_path).read() == (SavedState(), "")


def test_the_same_state_is_not_written_twice(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.write(STATES[1])
    written = journal.path.stat().st_mtime_ns

    assert not journal.write(STATES[1])
    reopened = Journal(tmp_path)
    reopened.read()
    assert not reopened.write(STATES[1])
    assert journal.path.stat().st_mtime_ns == written


def test_a_damaged_journal_falls_back_to_the_one_before(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(STATES[1])
    journal.write(STATES[2])
    journal.path.write_bytes(journal.path.read_bytes().replace(b"digits", b"digitz"))

    state, trouble = Journal(tmp_path).read()

    assert state == STATES[1]
    assert "journal.json" in trouble
    assert "damaged" in trouble


def test_two_damaged_journals_leave_an_empty_state_and_a_trouble(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(STATES[1])
    journal.write(STATES[2])
    journal.path.write_bytes(b"")
    journal.copy.write_bytes(os.urandom(100))

    state, trouble = Journal(tmp_path).read()

    assert state == SavedState()
    assert "journal.json:" in trouble
    assert "journal.json.1:" in trouble


@settings(max_examples=60)
@given(position=st.integers(0, 10_000), flip=st.integers(1, 255))
def test_any_flipped_byte_is_noticed(
    tmp_path_factory: pytest.TempPathFactory, position: int, flip: int
) -> None:
    directory = tmp_path_factory.mktemp("journal")
    journal = Journal(directory)
    journal.write(STATES[1])
    journal.write(STATES[2])
    data = bytearray(journal.path.read_bytes())
    data[position % len(data)] ^= flip
    journal.path.write_bytes(data)

    state, trouble = Journal(directory).read()

    assert (state == STATES[2]) or (state == STATES[1] and trouble)


class PowerCutError(BaseException):
    """The power fails; not an Exception, so nothing swallows it."""


@pytest.mark.parametrize("moment", range(8))
def test_a_power_cut_at_any_step_leaves_the_old_or_the_new_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    journal = Journal(tmp_path)
    journal.write(STATES[1])
    journal.write(STATES[2])
    left = iter(range(moment))

    def cut(_step: str, _path: Path) -> None:
        if next(left, None) is None:
            raise PowerCutError

    monkeypatch.setattr(files, "commit_point", cut)
    with contextlib.suppress(PowerCutError):
        journal.write(STATES[3])
    monkeypatch.undo()

    state, trouble = Journal(tmp_path).read()

    assert state in {STATES[2], STATES[3]}
    assert trouble == ""


def test_a_journal_from_the_future_is_not_misread(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.write(STATES[1])
    journal.path.write_bytes(journal.path.read_bytes().replace(b'"format":1}', b'"format":9}'))

    state, trouble = Journal(tmp_path).read()

    assert state == SavedState()
    assert "upgrade" in trouble
