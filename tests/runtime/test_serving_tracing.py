import pytest

from runtime.serving import tracing
from runtime.serving.tracing import Trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-01", "01"),
        (f" 00-{TRACE}-{SPAN}-00 ", "00"),
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", "01"),
        (f"00-{TRACE}-{SPAN}-01".encode(), "01"),
    ],
)
def test_a_callers_place_in_its_trace_is_read(value: str | bytes, flags: str) -> None:
    assert tracing.parse(value) == Trace(TRACE, SPAN, flags)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        "00",
        f"00-{TRACE}-{SPAN}",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01\nx",
        b"\xff" * 55,
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 1000,
    ],
)
def test_what_is_not_valid_is_as_good_as_absent(value: str | bytes | None) -> None:
    assert tracing.parse(value) is None


def test_a_child_has_its_own_span_in_the_same_trace() -> None:
    parent = Trace(TRACE, SPAN, "01")

    child = tracing.parse(str(parent.child()))

    assert child is not None
    assert (child.trace, child.flags) == (TRACE, "01")
    assert child.span not in {SPAN, parent.child().span}
