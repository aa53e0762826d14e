"""Requests to an API server as values, and what sends them as a Protocol.

Apart from the door, so that what asks a cluster can be imported without the `kubernetes` package.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from cloud.hosting.errors import UnreachableError

JSON = "application/json"
ANSWER_S = 30.0


@dataclass(frozen=True)
class Request:
    """What the API server is asked."""

    method: str
    path: str
    doing: str
    """What people are told when it fails: "apply Deployment churn-r3"."""
    namespace: str
    query: dict[str, str] = field(default_factory=dict)
    body: Any = field(default=None, repr=False)
    """May hold secrets."""
    content: str = JSON
    accept: str = JSON
    timeout_s: float = ANSWER_S
    """For which the server may be silent."""
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    """Beside those that follow from the rest; may hold a key."""


class Lines(Protocol):
    """Lines of an answer as they come: cloud.hosting.kubernetes.door.Stream."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield them without their ends; raise UnreachableError when the link breaks."""
        ...

    def end(self) -> None:
        """End it from another thread: whoever reads is woken, and closes it."""
        ...

    def close(self) -> None:
        """Give it up; what has not come is not waited for."""
        ...


class Asking(Protocol):
    """What sends requests, from any thread: cloud.hosting.kubernetes.door.Door."""

    def ask(self, request: Request) -> bytes:
        """Return the answer's body; raise a TargetError that says what was being done."""
        ...

    def relay(self, request: Request) -> tuple[int, bytes]:
        """Return status and body of what a pod answers; `body` are bytes, sent as they are.

        Raise a TargetError if it is the API server that answers with an error.
        """
        ...

    def stream(self, request: Request) -> Lines:
        """Return an answer that goes on."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


def parsed(data: bytes, doing: str) -> Any:
    """Return the JSON of an answer."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UnreachableError(f"{doing}: the answer is no JSON: {data[:80]!r}") from error
