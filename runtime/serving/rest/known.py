"""All that a request's head says to this server, worked out once for each head.

X-Request-ID            the request's id where its body has none; given back
X-Request-Timeout-Ms    how long the client waits; then 504, and what has not begun is not done
traceparent             W3C trace context
"""

import http
import re

from runtime.errors import InvalidError
from runtime.serving import tracing
from runtime.serving.dataplane import MAX_ID_CHARS
from runtime.serving.rest import coding, questions
from runtime.serving.rest.routes import Place
from runtime.serving.served import NO_ASK, Ask
from runtime.serving.wire.errors import RefusedError
from runtime.serving.wire.head import Head

MAX_TIMEOUT_MS = 24 * 3600 * 1000
_DIGITS = re.compile(rb"[0-9]{1,15}\Z")


class Known:
    """What a head says."""

    __slots__ = (
        "accepts",
        "ask",
        "coding",
        "content_type",
        "fields",
        "json_bytes",
        "place",
        "plain",
        "request_id",
        "timeout_s",
        "trace",
    )

    def __init__(self, head: Head, place: Place, timeout_s: float | None = None) -> None:
        """Raise RefusedError or InvalidError for a header that is wrong.

        `timeout_s` is how long the client waits if it does not say.
        """
        said = head.fields
        self.place = place
        self.content_type = said.get(b"content-type", b"").decode("latin-1")
        self.json_bytes = _number(questions.HEADER, said)
        """Where the binary part begins; None: there is none."""
        self.coding = coding.coding_of(said.get(b"content-encoding"))
        self.accepts = coding.accepted(said.get(b"accept-encoding"))
        self.plain = self.coding is None and self.accepts is None
        """The body is not compressed, nor may the answer be."""
        self.timeout_s = timeout_s if (own := _timeout(said)) is None else own
        trace = tracing.parse(said.get(b"traceparent"))
        self.trace = None if trace is None else str(trace)
        given = said.get(b"x-request-id")
        self.request_id = None if given is None else given.decode("latin-1")
        self.fields = b"" if given is None else b"x-request-id: %b\r\n" % given
        """Header lines that every answer has."""
        if given is not None and len(given) > MAX_ID_CHARS:
            fix = f"use at most {MAX_ID_CHARS} characters"
            raise InvalidError("X-Request-ID", self.request_id, fix)
        self.ask: Ask | None = NO_ASK
        """What the data plane is told if the body says no more; None: it differs by request."""
        if self.timeout_s is not None:
            self.ask = None
        elif self.request_id is not None or self.trace is not None:
            self.ask = Ask(request=self.request_id, trace=self.trace)


def _timeout(said: dict[bytes, bytes]) -> float | None:
    milliseconds = _number("X-Request-Timeout-Ms", said)
    if milliseconds is None:
        return None
    if not 0 < milliseconds <= MAX_TIMEOUT_MS:
        fix = f"give milliseconds, 1 to {MAX_TIMEOUT_MS}"
        raise InvalidError("X-Request-Timeout-Ms", milliseconds, fix)
    return milliseconds / 1000


def _number(name: str, said: dict[bytes, bytes]) -> int | None:
    value = said.get(name.lower().encode())
    if value is None:
        return None
    if not _DIGITS.match(value):
        text = f"{name}: {value[:60].decode('latin-1')} is no number"
        raise RefusedError(http.HTTPStatus.BAD_REQUEST, text)
    return int(value)
