"""Devices, by the client."""

from collections.abc import Iterator

from cloud import schema, shapes
from cloud.client.calls import Calls
from cloud.transport import path_of

ANSWER_S = 15.0
"""What the registry may take beside the device."""


class DeviceCalls(Calls):
    """Devices and the tokens that let them in."""

    def make_token(self, wish: shapes.NewToken) -> shapes.Token:
        """Make an enrolment token."""
        return self._transport.post("/devices/tokens", shapes.Token, wish)

    def ca(self) -> str:
        """Return the certificate (PEM) of the CA that devices trust."""
        return self._transport.call("GET", "/ca").text

    def devices(self, selector: str | None = None) -> Iterator[shapes.Device]:
        """Yield the devices that a selector matches, or all, by id."""
        return self._transport.pages("/devices", schema.Page[shapes.Device], selector=selector)

    def device(self, device: str) -> shapes.Device:
        """Return one device."""
        return self._transport.get(path_of("/devices/{}", device), shapes.Device)

    def set_labels(self, device: str, changes: shapes.LabelChanges) -> shapes.Device:
        """Set and remove labels."""
        answer = self._transport.call(
            "PATCH", path_of("/devices/{}/labels", device), again=True, json=changes.model_dump()
        )
        return shapes.Device.model_validate_json(answer.content)

    def command(self, device: str, wish: shapes.NewCommand) -> shapes.CommandResult:
        """Have a device do something now; return what came of it."""
        path = path_of("/devices/{}/commands", device)
        # No Idempotency-Key: it is done now or never, and no answer shall be kept.
        answer = self._transport.attempt(
            lambda: self._transport.http.request(
                "POST", path, json=wish.model_dump(), timeout=wish.timeout_s + ANSWER_S
            ),
            again=False,
        )
        return shapes.CommandResult.model_validate_json(answer.content)

    def revoke(self, device: str) -> shapes.Device:
        """Shut a device out."""
        return self._transport.post(
            path_of("/devices/{}/revoke", device), shapes.Device, again=True
        )
