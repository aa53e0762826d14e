"""The bytes of one client, taken apart into requests. Knows no socket and no time.

            head whole            body whole
    HEAD ───────────────► BODY ──────────────► Request, then HEAD
      │ └────────────── no body ─────────────►
      │ refused            │ refused
      ▼                    ▼
    Refusal, then DISCARD, where the rest of it is thrown away ──► DROPPED, then HEAD

`next` says what comes next and None when more bytes are needed for that. After a Refusal that is
`last` there is no next one: whatever comes is thrown away, up to a limit.
"""

import enum
import http

from runtime.serving.wire import answers
from runtime.serving.wire.answers import Answer
from runtime.serving.wire.app import App
from runtime.serving.wire.bodies import LARGE_BYTES, Body
from runtime.serving.wire.errors import RefusedError
from runtime.serving.wire.head import END, Head, Heads, retry_after
from runtime.serving.wire.intake import Intake, Leftover, too_large
from runtime.serving.wire.limits import Limits

DIRECT_BYTES = 64 * 1024
"""Of a body still to come, from which it is worth reading straight into its place."""
_SHORT = (http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, http.HTTPStatus.TOO_MANY_REQUESTS)
"""After these the connection may go on: where the next request begins is known."""


class Sign(enum.Enum):
    """What is no request."""

    CONTINUE = enum.auto()
    """The client waits for leave to send its body."""
    DROPPED = enum.auto()
    """A refused request is over."""
    OVERRUN = enum.auto()
    """A client that was refused does not stop sending."""


class Request:
    """A whole request."""

    __slots__ = ("body", "head")

    def __init__(self, head: Head, body: bytes | Body) -> None:
        self.head, self.body = head, body


class Refusal:
    """An answer to what will not be a request; `head` is None if not even that was one."""

    __slots__ = ("answer", "head", "last")

    def __init__(self, head: Head | None, answer: Answer, *, last: bool) -> None:
        self.head, self.answer, self.last = head, answer, last


class Held:
    """How many bytes of bodies all clients together have in memory."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self.total = 0

    def add(self, count: int) -> None:
        """Count bytes, which are there in any case; raise RefusedError if they are too many."""
        self.total += count
        if self.total > self._most_bytes:
            text = "requests in memory are too large together: try again later"
            raise RefusedError(http.HTTPStatus.TOO_MANY_REQUESTS, text, retry_after(1.0))


class Requests:
    """What one client asks, in order."""

    def __init__(self, app: App, heads: Heads, held: Held, limits: Limits) -> None:
        self._app, self._heads, self._shared, self._limits = app, heads, held, limits
        self.ahead = bytearray()
        """What came and was not looked at yet."""
        self._head: Head | None = None
        self._intake: Intake | None = None
        self._leftover: Leftover | None = None
        self._held = 0

    @property
    def quiet(self) -> bool:
        """Say whether nothing of a request is here."""
        return not self.ahead and self._intake is None and self._leftover is None

    @property
    def discarding(self) -> bool:
        """Say whether what comes is thrown away."""
        return self._leftover is not None

    @property
    def coming(self) -> Intake | None:
        """The body that is on its way."""
        return self._intake

    @property
    def direct(self) -> bool:
        """Say whether what comes next should be read to `room`."""
        intake = self._intake
        return intake is not None and intake.chunks is None and intake.left >= DIRECT_BYTES

    def next(self) -> Request | Refusal | Sign | None:
        """Return what comes next, as far as it is here."""
        if self._leftover is not None:
            return self._throw_away(self._leftover)
        try:
            if self._intake is not None:
                self.hold(self._intake.take(self.ahead))
                return self._whole()
            return self._begin()
        except RefusedError as error:
            return self.refuse(error)

    def room(self) -> memoryview:
        """Return where the next bytes of the body shall be read to."""
        assert self._intake is not None
        return self._intake.room()

    def filled(self, count: int) -> Request | Refusal | None:
        """Say that so many bytes were read there; return what that completes."""
        assert self._intake is not None
        self._intake.filled(count)
        try:
            self.hold(count)
        except RefusedError as error:
            return self.refuse(error)
        return self._whole()

    def hold(self, count: int) -> None:
        """Count bytes as held until the request is answered; raise RefusedError for too many."""
        self._held += count
        self._shared.add(count)

    def release(self) -> None:
        """Let go of a request that is answered, or whose client is gone."""
        self._shared.total -= self._held
        self._held, self._intake = 0, None

    def refuse(self, error: RefusedError) -> Refusal:
        """Refuse what is coming."""
        answer = answers.error(int(error.status), str(error), error.fields)
        if error.status in _SHORT and self._head is not None:
            return self._reject(self._head, answer)
        return self._part(None, answer)

    def _begin(self) -> Request | Refusal | Sign | None:
        ahead = self.ahead
        if ahead.startswith(b"\r\n"):  # one may be there: RFC 9112, 2.2
            del ahead[:2]
        end = ahead.find(END) + len(END)
        if (len(ahead) if end < len(END) else end) > self._limits.head_bytes:
            raise RefusedError(
                http.HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                f"the headers are too large: send at most {self._limits.head_bytes} bytes",
            )
        if end < len(END):
            return None
        self._head = None
        self._head = head = self._heads.parse(bytes(ahead[:end]))
        del ahead[:end]
        if head.length > self._limits.body_bytes and not head.chunked:
            raise too_large(self._limits.body_bytes)
        if not head.chunked and head.length <= min(len(ahead), LARGE_BYTES - 1):
            body = bytes(ahead[: head.length])
            del ahead[: head.length]
            return Request(head, body)
        return self._await_body(head)

    def _await_body(self, head: Head) -> Request | Refusal | Sign | None:
        refusal = self._app.admit(head)
        if refusal is not None:
            return self._reject(head, refusal)
        large = head.length >= LARGE_BYTES and not head.chunked
        place = self._app.place(head) if large else None
        self._intake = Intake(head, place, most_bytes=self._limits.body_bytes)
        return Sign.CONTINUE if head.expects and not self.ahead else self.next()

    def _whole(self) -> Request | None:
        intake, head = self._intake, self._head
        assert intake is not None
        assert head is not None
        if not intake.whole:
            return None
        self._intake = None
        return Request(head, intake.body())

    def _reject(self, head: Head, answer: Answer) -> Refusal:
        """Refuse a body; go on behind it if it is short."""
        most = self._limits.discard_bytes
        left = head.length - (0 if self._intake is None else self._intake.got)
        if not head.keep_alive or head.expects or (left > most and not head.chunked):
            return self._part(head, answer)
        self._leftover = Leftover(head, self._intake, most_bytes=most)
        self.release()
        return Refusal(head, answer, last=False)

    def _part(self, head: Head | None, answer: Answer) -> Refusal:
        """Refuse all that comes."""
        self._leftover = Leftover(None, None, most_bytes=self._limits.discard_bytes)
        self.release()
        return Refusal(head, answer, last=True)

    def _throw_away(self, leftover: Leftover) -> Sign | None:
        try:
            over = leftover.drop(self.ahead)
        except RefusedError:
            return Sign.OVERRUN
        if not over:
            return None
        self._leftover = None
        return Sign.DROPPED
