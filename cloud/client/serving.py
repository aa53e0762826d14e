"""Services, by the client."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx2

from cloud import schema, shapes
from cloud.client.calls import Calls
from cloud.client.history import SILENCE_S
from cloud.errors import GaveUpError, UnreachableError
from cloud.transport import path_of

VERIFY_S = 60.0
"""For a check's runs, beside the time that one may take."""


class ServiceCalls(Calls):
    """Versions served in the cloud."""

    def deploy_service(self, wish: shapes.NewService) -> shapes.ServiceMade:
        """Have a service be like this; nothing changes if it is so already."""
        return self._transport.post("/services", shapes.ServiceMade, wish)

    def services(self) -> Iterator[shapes.Service]:
        """Yield all services by name."""
        return self._transport.pages("/services", schema.Page[shapes.Service])

    def service(self, service: str) -> shapes.ServiceDetail:
        """Return a service and its revisions."""
        return self._transport.get(path_of("/services/{}", service), shapes.ServiceDetail)

    def change_service(
        self, service: str, changes: Mapping[str, Any], *, revision: int | None = None
    ) -> shapes.ServiceMade:
        """Change what is given; with `revision`, only if nobody changed it meanwhile."""
        headers = {} if revision is None else {"If-Match": f'"{revision}"'}
        body = shapes.ServiceChanges.make(**changes).model_dump(exclude_unset=True)
        path = path_of("/services/{}", service)
        answer = self._transport.call("PATCH", path, json=body, headers=headers)
        return shapes.ServiceMade.model_validate_json(answer.content)

    def remove_service(self, service: str, *, forget: bool = False) -> shapes.Service:
        """Remove a service; `forget`: do not wait for where it runs."""
        path = path_of("/services/{}", service)
        answer = self._transport.call("DELETE", path, params={"forget": forget})
        return shapes.Service.model_validate_json(answer.content)

    def set_traffic(self, service: str, wish: shapes.NewTraffic) -> shapes.ServiceDetail:
        """Have these shares."""
        return self._act(service, "traffic", wish)

    def promote_service(self, service: str) -> shapes.ServiceDetail:
        """Give the newest revision that runs all the traffic."""
        return self._act(service, "promote")

    def roll_service_back(self, service: str, wish: shapes.NewRollback) -> shapes.ServiceDetail:
        """Go back to where the traffic was before, or to a revision."""
        return self._act(service, "rollback", wish)

    def scale_service(self, service: str, wish: shapes.NewScale) -> shapes.ServiceDetail:
        """Have so many replicas."""
        return self._act(service, "scale", wish)

    def verify_service(self, service: str, wish: shapes.NewVerification) -> shapes.ServiceFindings:
        """Have the registry ask revisions the checks of their versions."""
        path = path_of("/services/{}/verify", service)
        timeout = VERIFY_S + 2 * wish.timeout_s
        answer = self._transport.call(
            "POST", path, again=False, json=wish.model_dump(), timeout=timeout
        )
        return shapes.ServiceFindings.model_validate_json(answer.content)

    def export_service(self, service: str, wish: shapes.ExportWish) -> shapes.ServiceExport:
        """Return a service as files, or what they wait for."""
        return self._transport.post(
            path_of("/services/{}/export", service), shapes.ServiceExport, wish
        )

    def export_new_service(self, wish: shapes.NewExport) -> shapes.ServiceExport:
        """Return a service that shall not be run as files, or what they wait for."""
        return self._transport.post("/exports", shapes.ServiceExport, wish)

    def _act(
        self, service: str, what: str, body: schema.Request | None = None
    ) -> shapes.ServiceDetail:
        path = path_of("/services/{}/" + what, service)
        return self._transport.post(path, shapes.ServiceDetail, body)

    def add_service_key(self, service: str, wish: shapes.NewServiceKey) -> shapes.ServiceKeyMade:
        """Make a key; it is shown this once."""
        path = path_of("/services/{}/keys", service)
        return self._transport.post(path, shapes.ServiceKeyMade, wish)

    def service_keys(self, service: str) -> Iterator[shapes.ServiceKey]:
        """Yield the keys that work."""
        path = path_of("/services/{}/keys", service)
        return self._transport.pages(path, schema.Page[shapes.ServiceKey])

    def revoke_service_key(self, service: str, key: str) -> None:
        """Have a key work no more."""
        self._transport.call("DELETE", path_of("/services/{}/keys/{}", service, key))

    def service_logs(self, service: str, **query: Any) -> list[shapes.ServiceLine]:
        """Return what its replicas wrote last; see /api/v1/services/{service}/logs."""
        path = path_of("/services/{}/logs", service)
        return list(self._transport.get(path, shapes.ServiceLines, **query).items)

    def follow_logs(self, service: str, **query: Any) -> Iterator[shapes.ServiceLine]:
        """Yield what its replicas wrote last and what they write, until the registry ends it.

        Raises UnreachableError when the line breaks, GaveUpError when there is trouble at the
        target.
        """
        path = path_of("/services/{}/logs", service)
        headers = {"Accept": "text/event-stream"}
        try:
            with self._transport.lines(
                path, headers=headers, silence_s=SILENCE_S, **query
            ) as lines:
                yield from _read(lines)
        except httpx2.TransportError as error:
            why = str(error) or type(error).__name__
            raise UnreachableError(
                f"logs: the registry is not heard from any more: {why}"
            ) from error

    def places(self) -> list[shapes.Place]:
        """Return the places where services run."""
        return list(self._transport.get("/places", shapes.Places).items)

    def service_runs(self, **query: Any) -> Iterator[shapes.ServiceRun]:
        """Yield what had which share of a service's traffic; see /api/v1/history/services."""
        page = schema.Page[shapes.ServiceRun]
        return self._transport.pages("/history/services", page, **query)


def _read(lines: Iterator[str]) -> Iterator[shapes.ServiceLine]:
    kind = ""
    for line in lines:
        name, _colon, value = line.partition(":")
        if name == "event":
            kind = value.strip()
        elif name == "data" and kind == "trouble":
            raise GaveUpError(f"logs: {value.strip()}")
        elif name == "data":
            yield shapes.ServiceLine(**json.loads(value))
        elif not line:
            kind = ""
