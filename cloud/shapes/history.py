"""The history, and the registry itself."""

from typing import Any

from cloud.schema import Answer


class Event(Answer):
    """A line of the history."""

    id: int
    at: float
    actor: str
    kind: str
    subject: str
    data: dict[str, Any]


class Health(Answer):
    """Whether the registry does its work."""

    status: str
    """ok or failing."""
    duties: dict[str, bool]
