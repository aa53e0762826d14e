"""Webhooks, by the client."""

from collections.abc import Iterator

from cloud import schema, shapes
from cloud.client.calls import Calls
from cloud.transport import path_of


class WebhookCalls(Calls):
    """Who is told of events."""

    def add_webhook(self, wish: shapes.NewWebhook) -> shapes.WebhookMade:
        """Have a URL told of events; the answer holds the secret, this once."""
        return self._transport.post("/webhooks", shapes.WebhookMade, wish)

    def webhooks(self) -> Iterator[shapes.Webhook]:
        """Yield all webhooks by id."""
        return self._transport.pages("/webhooks", schema.Page[shapes.Webhook])

    def webhook(self, webhook: str) -> shapes.Webhook:
        """Return one webhook."""
        return self._transport.get(path_of("/webhooks/{}", webhook), shapes.Webhook)

    def change_webhook(self, webhook: str, changes: shapes.WebhookChanges) -> shapes.Webhook:
        """Change what is not None."""
        answer = self._transport.call(
            "PATCH",
            path_of("/webhooks/{}", webhook),
            again=True,
            json=changes.model_dump(exclude_none=True),
        )
        return shapes.Webhook.model_validate_json(answer.content)

    def remove_webhook(self, webhook: str) -> None:
        """Forget a webhook."""
        self._transport.call("DELETE", path_of("/webhooks/{}", webhook))

    def deliveries(self, webhook: str) -> Iterator[shapes.Delivery]:
        """Yield attempts, newest first."""
        return self._transport.pages(
            path_of("/webhooks/{}/deliveries", webhook), schema.Page[shapes.Delivery]
        )

    def test_webhook(self, webhook: str) -> shapes.Delivery:
        """Send a message that is no event, and return how that went."""
        return self._transport.post(path_of("/webhooks/{}/test", webhook), shapes.Delivery)

    def replay_webhook(self, webhook: str, wish: shapes.Replay) -> shapes.Replayed:
        """Have events told once more."""
        return self._transport.post(path_of("/webhooks/{}/replay", webhook), shapes.Replayed, wish)
