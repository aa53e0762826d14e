"""How a request is followed through the system: its id, and its place in a trace. Pure.

`traceparent` is W3C Trace Context: version-trace-parent-flags. What is malformed is dropped, as
that standard demands, and never passed on.
"""

import os
import re

_REQUEST_ID = re.compile(r"[\w.:/+=@-]{1,128}", re.ASCII)
_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?"
)


def request_id(given: str | None) -> str:
    """Return the client's id if it is a harmless one, else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return os.urandom(12).hex()


def child(traceparent: str | None) -> str | None:
    """Return the `traceparent` of a new span below the given one; None if there is no good one."""
    found = None if traceparent is None else _TRACEPARENT.fullmatch(traceparent)
    if found is None:
        return None
    return f"00-{found[1]}-{os.urandom(8).hex()}-{found[2]}"
