"""Webhooks and what they were told."""

from typing import Annotated

from pydantic import Field

from cloud.schema import Answer, Request
from cloud.shapes.words import ShortText

Url = Annotated[str, Field(max_length=2048, examples=["https://hooks.example/packhorse"])]
Kinds = Annotated[
    list[Annotated[str, Field(max_length=64)]],
    Field(max_length=32, examples=[["deployment.*", "device.failed"]]),
]
Secret = Annotated[str, Field(max_length=128)]


class NewWebhook(Request):
    """Asks for a webhook."""

    url: Url
    kinds: Kinds = Field(default_factory=list)
    """deployment.created, or deployment.* for all that begin so; none: all."""
    secret: Secret | None = None
    """whsec_ and the base64 of 24 to 64 bytes; None: the registry makes one."""
    description: ShortText = ""
    active: bool = True


class WebhookChanges(Request):
    """What to change; None leaves it."""

    url: Url | None = None
    kinds: Kinds | None = None
    secret: Secret | None = None
    description: ShortText | None = None
    active: bool | None = None
    """True also forgets its failures; what it missed meanwhile is told then."""


class Webhook(Answer):
    """A webhook."""

    id: str
    url: str
    kinds: list[str]
    description: str
    active: bool
    created_at: float
    created_by: str
    cursor: int
    """Id of the newest event that is done with."""
    waiting: bool
    """There are newer events that it was not told of."""
    failing_since: float | None
    """None: the last attempt did not fail."""
    next_at: float | None
    """When the next attempt is made, if the last one failed."""
    disabled_reason: str
    """Why the registry switched it off; empty: it did not."""
    dead: int
    """Events that it was not told of in time, and not since."""


class WebhookMade(Webhook):
    """A new webhook; this is the only time that its secret is shown."""

    secret: str


class Delivery(Answer):
    """One attempt to tell a webhook of an event."""

    id: int
    event: int
    """0: a test."""
    at: float
    attempt: int
    outcome: str
    """delivered, failed (it is tried again) or dead."""
    status: int | None
    """Of the HTTP answer; None: there was none."""
    took_ms: float
    detail: str
    """The beginning of the answer's body, or why there was none."""


class Replay(Request):
    """What to tell once more."""

    after: int | None = Field(default=None, ge=0, le=(1 << 63) - 1)
    """All events with higher ids; None: the dead letters."""


class Replayed(Answer):
    """What will be told once more."""

    webhook: str
    queued: int
    """Dead letters."""
