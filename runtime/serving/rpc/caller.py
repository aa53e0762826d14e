"""What a call's metadata says of who calls: the key, the trace, the request's id."""

import hmac
from collections.abc import Iterable
from typing import NamedTuple

from runtime.serving import tracing

MAX_ID_CHARS = 256
"""A longer id from metadata is not used; one in the message is refused."""
_SCHEME = "bearer "


class Caller(NamedTuple):
    """Who calls."""

    key: str = ""
    """What came as `authorization: Bearer …`."""
    trace: str | None = None
    """W3C traceparent, if it is a valid one."""
    request: str | None = None
    """x-request-id."""


NOBODY = Caller()


def read(metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
    """Return what metadata says; NOBODY if it says nothing."""
    caller = NOBODY
    for name, value in metadata:
        # Names that begin otherwise, as most do, are passed over quickly.
        if name[0] not in "atx" or not isinstance(value, str):
            continue
        if name == "authorization" and value[: len(_SCHEME)].lower() == _SCHEME:
            caller = caller._replace(key=value[len(_SCHEME) :].strip())
        elif name == tracing.HEADER and tracing.parse(value) is not None:
            caller = caller._replace(trace=value)
        elif name == "x-request-id" and len(value) <= MAX_ID_CHARS:
            caller = caller._replace(request=value)
    return caller


def allowed(caller: Caller, key: str | None) -> bool:
    """Say whether a caller has the server's key; without one everybody has."""
    return key is None or hmac.compare_digest(caller.key.encode(), key.encode())
