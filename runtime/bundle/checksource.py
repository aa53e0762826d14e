"""The `check` of a bundle.yaml, or of one of its variants."""

from runtime.bundle.fields import Fields
from runtime.bundle.index import Check


def read(top: Fields) -> Check | None:
    """Return what `check` says; None if there is none. Raises InvalidError naming the field."""
    if "check" not in top:
        return None
    check = top.fields("check", ("inputs", "outputs", "rtol", "atol", "p95_ms"))
    default = Check(inputs="")
    rtol = check.number("rtol", above=0, inclusive=True)
    atol = check.number("atol", above=0, inclusive=True)
    p95_ms = check.number("p95_ms", above=0)
    return Check(
        inputs=check.path("inputs", required=True),
        outputs=check.path("outputs") or None,
        rtol=default.rtol if rtol is None else float(rtol),
        atol=default.atol if atol is None else float(atol),
        p95_ms=None if p95_ms is None else float(p95_ms),
    )
