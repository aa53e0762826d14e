import io
import json
import logging
from collections.abc import Iterator

import pytest

from runtime import logs


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    root.handlers, root.level = before, level


def lines_of(form: logs.Format, level: str = "info") -> str:
    stream = io.StringIO()
    logs.set_up(form=form, level=level, stream=stream)
    log = logging.getLogger("edge_agent.test")
    log.debug("too quiet")
    log.warning("disk low", extra={"free_mb": 3, "path": "/a b"})
    try:
        raise ValueError("odd")  # noqa: TRY301 - a traceback is wanted
    except ValueError:
        log.exception("it failed")
    return stream.getvalue()


def test_json_lines_carry_the_facts() -> None:
    first, second = map(json.loads, lines_of("json").splitlines())

    assert first["event"] == "disk low"
    assert first["level"] == "warning"
    assert first["free_mb"] == 3
    assert first["path"] == "/a b"
    assert first["at"].endswith("Z")
    assert "ValueError: odd" in second["traceback"]


def test_plain_lines_are_for_people() -> None:
    first, *rest = lines_of("plain").splitlines()

    assert first.endswith("WARNING edge_agent.test: disk low free_mb=3 path='/a b'")
    assert rest[-1] == "ValueError: odd"


def test_a_fact_cannot_forge_a_line() -> None:
    stream = io.StringIO()
    logs.set_up(stream=stream)

    logging.getLogger("x").warning("told\nx", extra={"reason": "a\nERROR all is lost"})

    assert len(stream.getvalue().splitlines()) == 1


def test_the_level_is_kept() -> None:
    assert "too quiet" in lines_of("plain", "debug")
    assert "disk low" not in lines_of("plain", "error")


def test_what_is_no_json_is_written_as_text() -> None:
    stream = io.StringIO()
    logs.set_up(form="json", stream=stream)

    logging.getLogger("x").warning("told", extra={"thing": {1, 2}})

    assert json.loads(stream.getvalue())["thing"] == "{1, 2}"
