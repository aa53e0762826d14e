import threading
from pathlib import Path
from typing import Any

import pytest

from edge_agent.worker import sources
from edge_agent.worker.sources import Item, SourceError, Surroundings
from runtime.inference.model import Model
from tests.support import models


def items(
    directory: Path, script: str, position: str | None = None, uri: str = "entry:source"
) -> list[Item]:
    """Return all that the script's generator gives."""
    index = models.install(directory, models.linear_model(), entry=script)
    model = Model.load(directory, index)
    around = Surroundings(
        module="mod",
        signature=model.signature,
        entry=model.entry,
        roots=(),
        stopping=threading.Event(),
        tell=lambda _text: None,
        after_sync=lambda _function: None,
    )
    return list(sources.open_source(uri, around).items(position))


def places(given: list[Item]) -> list[tuple[str, str | None]]:
    """Names and positions."""
    return [(item.name, item.position) for item in given]


def test_inputs_alone_are_counted(tmp_path: Path) -> None:
    given = items(tmp_path, "def source():\n    for n in range(3): yield {'x': [n]}")

    assert places(given) == [("1", "1"), ("2", "2"), ("3", "3")]
    assert [item.inputs for item in given] == [{"x": [0]}, {"x": [1]}, {"x": [2]}]


def test_items_may_have_names_and_positions_of_their_own(tmp_path: Path) -> None:
    script = "def feed():\n    yield {'x': 1}, 'first'\n    yield {'x': 2}, 2, 'offset 9'"

    given = items(tmp_path, script, uri="entry:feed")

    assert places(given) == [("first", "1"), ("2", "offset 9")]


def test_a_generator_that_takes_a_position_goes_on_from_it(tmp_path: Path) -> None:
    script = "def source(position=None):\n    for n in range(int(position or 0), 4): yield {'x': n}"

    assert places(items(tmp_path, script, position="2")) == [("3", "3"), ("4", "4")]


def test_a_generator_without_one_starts_afresh_and_its_count_goes_on(tmp_path: Path) -> None:
    assert places(items(tmp_path, "def source(): yield {'x': 1}", "41")) == [("42", "42")]


@pytest.mark.parametrize(
    ("script", "uri", "text"),
    [
        (
            "def source():\n    yield {}\n    raise OSError('unplugged')",
            "entry:source",
            "unplugged",
        ),
        ("def source(): yield 7", "entry:source", "yielded int: yield a dict"),
        ("def source(): return 7", "entry:source", "TypeError"),
        ("def other(): pass", "entry:source", "source is not defined: the script has other"),
    ],
)
def test_a_script_that_fails_is_a_trouble_in_one_line(
    tmp_path: Path, script: str, uri: str, text: str
) -> None:
    with pytest.raises(SourceError, match=text):
        items(tmp_path, script, uri=uri)


def test_a_bundle_without_a_script_has_no_such_source() -> None:
    nothing: Any = None
    around = Surroundings("mod", nothing, None, (), threading.Event(), nothing, nothing)

    with pytest.raises(SourceError, match=r"name one in bundle\.yaml"):
        sources.open_source("entry:source", around)
