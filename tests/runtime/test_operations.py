import pytest

from runtime import operations
from runtime.errors import InvalidError
from runtime.operations import ExecOptions, LogsOptions, Nothing


def test_options_travel_as_text_and_are_read_by_kind() -> None:
    given = {"since_s": "600", "level": "warning", "lines": "20"}

    assert operations.options("logs", given) == LogsOptions(600.0, "warning", 20)
    assert operations.options("exec", {"name": "uptime"}) == ExecOptions("uptime")
    assert operations.options("support", {}) == Nothing()


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [
        ("logs", {"level": "loud"}, r"options\.level: .*'logs' takes since_s, level"),
        ("logs", {"lines": "0"}, "lines"),
        ("logs", {"colour": "red"}, "colour"),
        ("exec", {}, "name"),
        ("exec", {"name": "rm -rf /"}, "name"),
        ("restart", {"hard": "yes"}, "'restart' takes none"),
        ("logs", {"after": "x" * (operations.MAX_OPTION_CHARS + 1)}, "send fewer and shorter ones"),
    ],
)
def test_options_that_a_kind_does_not_take_are_refused(
    kind: str, given: dict[str, str], words: str
) -> None:
    with pytest.raises(InvalidError, match=words):
        operations.options(kind, given)
