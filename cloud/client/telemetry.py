"""Records, by the client."""

from typing import Any

from cloud import schema, shapes
from cloud.client.calls import Calls


class TelemetryCalls(Calls):
    """What devices recorded."""

    def records(self, **query: Any) -> schema.Page[shapes.Record]:
        """Return a page of records; see /api/v1/telemetry/records for what may be asked."""
        return self._transport.get("/telemetry/records", schema.Page[shapes.Record], **query)

    def stats(self, model: str, *, since: float | None = None) -> shapes.ModelStats:
        """Return what each version of a model did."""
        return self._transport.get("/telemetry/stats", shapes.ModelStats, model=model, since=since)
