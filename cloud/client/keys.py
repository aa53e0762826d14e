"""API keys, by the client."""

from collections.abc import Iterator

from cloud import schema, shapes
from cloud.client.calls import Calls
from cloud.transport import path_of


class KeyCalls(Calls):
    """Who may ask the registry."""

    def make_key(self, wish: shapes.NewKey) -> shapes.KeyMade:
        """Make a key; the answer holds it, this once."""
        return self._transport.post("/keys", shapes.KeyMade, wish)

    def keys(self) -> Iterator[shapes.Key]:
        """Yield all keys by name, revoked ones among them."""
        return self._transport.pages("/keys", schema.Page[shapes.Key])

    def revoke_key(self, name: str) -> shapes.Key:
        """Have a key work no more."""
        return self._transport.post(path_of("/keys/{}/revoke", name), shapes.Key, again=True)
