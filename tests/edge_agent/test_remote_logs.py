import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.remote import loglines, printed
from edge_agent.remote.loglines import Wanted
from edge_agent.remote.ring import Line, Ring
from edge_agent.workers.captured import CappedLog

ALL = Wanted(None, logging.DEBUG, 1000, 1 << 20)
HEADS = (
    "2026-03-01T12:00:00.500Z INFO edge_agent.agent: worker started slot=1",
    "2026-03-01T12:00:10.000Z ERROR edge_agent.worker: worker failed",
    "Traceback (most recent call last):",
    "ValueError: no",
    "2026-03-01T12:00:20.000Z DEBUG edge_agent.agent: quiet",
)
NOON = 1772366400.0


def test_a_traceback_belongs_to_the_line_above_it() -> None:
    lines = loglines.parse(HEADS)

    assert [line.at for line in lines] == [NOON + s for s in (0.5, 10, 10, 10, 20)]
    wanted = Wanted(None, logging.WARNING, 1000, 1 << 20)
    assert loglines.choose(lines, wanted).texts == HEADS[1:4]


def test_only_lines_since_then_are_sent() -> None:
    since = Wanted(NOON + 5, logging.DEBUG, 1000, 1 << 20)

    assert loglines.choose(loglines.parse(HEADS), since).texts == HEADS[1:]


def test_what_does_not_say_when_it_was_counts_as_new() -> None:
    since = Wanted(NOON, logging.INFO, 1000, 1 << 20)

    assert loglines.choose(loglines.parse(["print", *HEADS[:1]]), since).texts[0] == "print"


@settings(max_examples=60)
@given(
    texts=st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), max_size=40)),
    lines=st.integers(1, 20),
    most=st.integers(1024, 2048),
)
def test_what_is_sent_is_the_newest_and_bounded(texts: list[str], lines: int, most: int) -> None:
    found = [Line(text, 1.0, logging.INFO) for text in texts]
    chosen = loglines.choose(found, Wanted(None, logging.INFO, lines, most))

    assert len(chosen.texts) <= lines
    assert len(chosen.encoded()) <= most
    assert list(chosen.texts) == texts[len(texts) - len(chosen.texts) :]
    assert chosen.left_out == len(texts) - len(chosen.texts)


@pytest.fixture
def ring() -> Iterator[Ring]:
    made = Ring(max_lines=5)
    made.attach()
    yield made
    made.detach()


def test_the_ring_keeps_the_newest_lines_and_a_cursor_goes_on_behind_them(ring: Ring) -> None:
    log = logging.getLogger("test.ring")
    for number in range(8):
        log.warning("line", extra={"number": number})
    lines, cursor = ring.read("")
    assert [line.text.rpartition("=")[2] for line in lines] == list("34567")

    assert ring.read(cursor) == ([], cursor)
    log.warning("line", extra={"number": 8})
    more, following = ring.read(cursor)

    assert [line.text.rpartition("=")[2] for line in more] == ["8"]
    assert ring.read(following)[0] == []


def test_a_cursor_of_another_life_begins_anew(ring: Ring) -> None:
    logging.getLogger("test.ring").warning("here")

    assert len(ring.read("deadbeef-12")[0]) == 1
    assert len(ring.read("no cursor")[0]) == 1


def test_the_ring_is_bounded_in_bytes() -> None:
    ring = Ring(max_bytes=1000)
    record = logging.LogRecord("x", logging.INFO, "", 0, "y" * 300, None, None)
    for _ in range(10):
        ring.handle(record)

    assert sum(len(line.text) for line in ring.read("")[0]) <= 1000


def test_who_follows_a_workers_file_sees_each_line_once_though_it_is_set_aside(
    tmp_path: Path,
) -> None:
    path = tmp_path / "digits.log"
    log = CappedLog(path, cap_bytes=200)
    seen: list[str] = []
    cursor = ""
    for number in range(60):
        log.append(f"line {number}\n".encode())
        if number % 7 == 0:
            lines, cursor = printed.read(path, cursor)
            seen += [line.text for line in lines]
    lines, _ = printed.read(path, cursor)

    assert seen + [line.text for line in lines] == [f"line {number}" for number in range(60)]


def test_half_a_line_is_told_once_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "digits.log"
    log = CappedLog(path)
    log.append(b"one\ntw")
    lines, cursor = printed.read(path, "")
    assert [line.text for line in lines] == ["one"]

    log.append(b"o\n")

    assert [line.text for line in printed.read(path, cursor)[0]] == ["two"]


def test_a_worker_that_never_printed_has_no_lines(tmp_path: Path) -> None:
    assert printed.read(tmp_path / "none.log", "")[0] == []
