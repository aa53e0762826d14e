"""The README's tour is the example's, which test_example.py runs."""

from tests.support import documents
from tests.support.documents import ROOT


def lines(blocks: list[str]) -> list[str]:
    return [line for block in blocks for line in block.splitlines() if line]


def test_the_tour_is_the_example_command_by_command() -> None:
    (tour,) = (block for block in documents.blocks(ROOT / "README.md", "bash") if "enrol" in block)
    example = lines(documents.blocks(ROOT / "examples" / "01_first_model" / "README.md", "bash"))

    told = lines([tour])

    assert [line for line in told if line not in example] == []
    assert [example.index(line) for line in told] == sorted(example.index(line) for line in told)


def test_ci_runs_the_command_that_the_readme_gives_for_tests() -> None:
    blocks = documents.blocks(ROOT / "README.md", "bash")

    assert "make test\n" in blocks
    assert "\nmake test\n" in (ROOT / ".ci" / "run").read_text("utf-8")
