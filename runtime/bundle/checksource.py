"""The `check` of a bundle.yaml, or of one of its variants."""

from runtime.bundle.fields import Fields
from runtime.bundle.index import Check

_FIELDS = ("inputs", "outputs", "rtol", "atol")


def read(top: Fields) -> Check | None:
    """Return what `check` says; None if there is none. Raises InvalidError naming the field."""
    if "check" not in top:
        return None
    check = top.fields("check", (*_FIELDS, "p95_ms", "memory_mb"))
    default = Check(inputs="")
    rtol = check.number("rtol", above=0, inclusive=True)
    atol = check.number("atol", above=0, inclusive=True)
    p95_ms = check.number("p95_ms", above=0)
    memory_mb = check.number("memory_mb", above=0)
    return Check(
        inputs=check.path("inputs", required=True),
        outputs=check.path("outputs") or None,
        rtol=default.rtol if rtol is None else float(rtol),
        atol=default.atol if atol is None else float(atol),
        p95_ms=None if p95_ms is None else float(p95_ms),
        memory_mb=None if memory_mb is None else float(memory_mb),
    )
