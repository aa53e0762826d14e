"""Logins to image registries, by the client."""

from collections.abc import Iterator

from cloud import schema, shapes
from cloud.client.calls import Calls
from cloud.transport import path_of


class ImageLoginCalls(Calls):
    """Who devices are to image registries."""

    def keep_image_login(
        self, registry: str, *, username: str, password: str, selector: str = "all"
    ) -> shapes.ImageLogin:
        """Keep a login for the devices of a selector, in place of the one that they had by it."""
        wish = {
            "registry": registry,
            "username": username,
            "password": password,
            "selector": selector,
        }
        answer = self._transport.call("POST", "/image-logins", again=True, json=wish)
        return shapes.ImageLogin.model_validate_json(answer.content)

    def image_logins(self) -> Iterator[shapes.ImageLogin]:
        """Yield all logins by id, without passwords."""
        return self._transport.pages("/image-logins", schema.Page[shapes.ImageLogin])

    def remove_image_login(self, login: int) -> None:
        """Forget a login; the devices that have it forget it too."""
        self._transport.call("DELETE", path_of("/image-logins/{}", str(login)))
