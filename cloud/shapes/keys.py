"""API keys and what they may do."""

from typing import Literal

from cloud.schema import Answer, Request
from cloud.shapes.words import ShortText


class NewKey(Request):
    """Asks for a key."""

    name: ShortText
    """Given once: a revoked key keeps its name."""
    role: Literal["viewer", "operator", "admin"]


class Key(Answer):
    """A key, without what makes it one."""

    name: str
    role: str
    """viewer, operator or admin."""
    created_at: float
    revoked_at: float | None


class KeyMade(Key):
    """A new key; this is the only time that it is shown."""

    key: str
