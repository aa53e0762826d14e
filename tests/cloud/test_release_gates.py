import pytest
from hypothesis import given
from hypothesis import strategies as st

from cloud.releasing import gates
from cloud.releasing.gates import Facts
from runtime.errors import InvalidError

GOOD = Facts({"accuracy": "0.96", "note": "best"}, size_bytes=2_000_000, check="", p95_ms=3.0)
CHAMPION = {"champion": Facts({"accuracy": "0.95"}, size_bytes=1_000_000)}


@pytest.mark.parametrize(
    ("text", "ok"),
    [
        ("check", True),
        ("p95_ms<=3", True),
        ("p95_ms<3", False),
        ("size_mb <= 2", True),
        ("size_mb>2", False),
        ("metadata.accuracy>=0.9", True),
        ("metadata.accuracy==0.96", True),
        ("metadata.accuracy!=0.96", False),
        ("metadata.accuracy>=@champion", True),
        ("metadata.accuracy>=@champion+0.02", False),
        ("metadata.accuracy>=@champion-0.01", True),
        ("metadata.loss<=0.1", False),
        ("metadata.note>=1", False),
        ("metadata.accuracy>=@nobody", True),
    ],
)
def test_a_gate_is_met_or_says_why_not(text: str, ok: bool) -> None:  # noqa: FBT001 - a table's column
    verdict = gates.judge(gates.parse(text), GOOD, CHAMPION)

    assert (verdict.ok, bool(verdict.text)) == (ok, True)


def test_a_model_without_a_check_passes_no_check() -> None:
    bare = Facts({}, 1)

    assert "no check" in gates.judge(gates.parse("check"), bare, {}).text
    assert not gates.judge(gates.parse("p95_ms<=9"), bare, {}).ok


def test_a_check_that_failed_is_named() -> None:
    failed = Facts({}, 1, check="output y differs")

    assert gates.judge(gates.parse("check"), failed, {}).text == "output y differs"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "accuracy>=1",
        "metadata.a=>1",
        "metadata.a>=x",
        "p95_ms",
        "metadata.a>=@",
        "size_mb<=1.2.3",
    ],
)
def test_what_is_no_gate_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidError, match="p95_ms<=20"):
        gates.parse(text)


@given(value=st.floats(-1e6, 1e6), offset=st.floats(-1e3, 1e3))
def test_a_comparison_with_an_alias_is_one_with_its_number(value: float, offset: float) -> None:
    here = Facts({"x": repr(value)}, 1)
    there = {"a": Facts({"x": repr(value - offset)}, 1)}
    gate = gates.Gate("", "metadata.x", ">=", offset, "a")

    assert gates.judge(gate, here, there).ok == (value >= (value - offset) + offset)
