"""Events and the history, by the client."""

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import httpx2

from cloud import schema, shapes
from cloud.client.calls import Calls
from cloud.errors import ClientError
from cloud.transport import FIRST_PAUSE_S, MOST_PAUSE_S, PAGE
from runtime.retry import Backoff

log = logging.getLogger(__name__)

SILENCE_S = 45.0
"""The registry sends something every 15 s; without a word for so long the line is dead."""


class HistoryCalls(Calls):
    """Who did what when, and what ran where."""

    def events(self, *, after: int = 0, **query: Any) -> Iterator[shapes.Event]:
        """Yield what is there, oldest first; see /api/v1/events for what may be asked."""
        return self._transport.pages("/events", schema.Page[shapes.Event], after=after, **query)

    def newest_events(self, number: int, **query: Any) -> list[shapes.Event]:
        """Return the `number` newest events, oldest first."""
        found = self._transport.get(
            "/events", schema.Page[shapes.Event], newest=True, limit=min(number, PAGE), **query
        )
        return list(found.items)

    def follow(
        self, after: int | None, *, stopping: threading.Event | None = None, **query: Any
    ) -> Iterator[shapes.Event]:
        """Yield events as they are committed, from behind `after` on, or (None) from now on.

        Goes on by itself, without a gap, when the line breaks or the registry starts anew, until
        `stopping` is set. Raises ClientError when the registry refuses for good.
        """
        place = _Place(after)
        backoff = Backoff(FIRST_PAUSE_S, MOST_PAUSE_S)
        stopping = stopping or threading.Event()
        while not stopping.is_set():
            try:
                for event in self._stream(place, query):
                    backoff.reset()
                    yield event
            except httpx2.TransportError as error:
                log.info("events broke off", extra={"why": str(error) or type(error).__name__})
            except ClientError as error:
                if not error.retryable:
                    raise
            stopping.wait(backoff.next())

    def _stream(self, place: "_Place", query: dict[str, Any]) -> Iterator[shapes.Event]:
        headers = {"Accept": "text/event-stream"}
        if place.after is not None:
            headers["Last-Event-ID"] = str(place.after)
        with self._transport.lines(
            "/events", headers=headers, silence_s=SILENCE_S, **query
        ) as lines:
            yield from place.read(lines)

    def runs(self, **query: Any) -> Iterator[shapes.Run]:
        """Yield what ran where, what became known last first; see /api/v1/history/runs."""
        return self._transport.pages("/history/runs", schema.Page[shapes.Run], **query)

    def moment(self, at: float, **query: Any) -> Iterator[shapes.Moment]:
        """Yield what ran on each device at a time; see /api/v1/history/moment."""
        return self._transport.pages("/history/moment", schema.Page[shapes.Moment], at=at, **query)


class _Place:
    """How far a reader is in the stream of events."""

    def __init__(self, after: int | None) -> None:
        self.after = after

    def read(self, lines: Iterator[str]) -> Iterator[shapes.Event]:
        """Yield the events of a stream: docs/specs/events.md."""
        kind, data, identity = "", "", self.after
        for line in lines:
            name, _colon, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                identity = int(value)
            elif name == "event":
                kind = value
            elif name == "data":
                data += value
            elif line == "":
                event = self._take(kind, data, identity)
                kind, data = "", ""
                if event is not None:
                    yield event

    def _take(self, kind: str, data: str, identity: int | None) -> shapes.Event | None:
        # Before the event is handed over: whoever has it never gets it again.
        self.after = identity
        if kind == "reset":
            log.warning("the registry knows fewer events than before", extra=json.loads(data))
            return None
        return shapes.Event.model_validate_json(data) if data else None
