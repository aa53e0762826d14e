"""Rollouts, by the client."""

from collections.abc import Iterator

from cloud import schema, shapes
from cloud.client.calls import Calls
from cloud.transport import path_of


class RolloutCalls(Calls):
    """Documents that reach their devices wave by wave."""

    def roll_out(self, document: shapes.DeploymentDocument) -> shapes.Rollout:
        """Begin to bring a document to its devices."""
        return self._transport.post("/rollouts", shapes.Rollout, document)

    def rollouts(self) -> Iterator[shapes.Rollout]:
        """Yield all rollouts, newest first."""
        return self._transport.pages("/rollouts", schema.Page[shapes.Rollout])

    def rollout(self, rollout: str) -> shapes.RolloutDetail:
        """Return a rollout and where each of its devices is."""
        path = path_of("/rollouts/{}", rollout)
        detail = first = self._transport.get(path, shapes.RolloutDetail)
        devices = list(first.devices)
        while detail.next is not None:
            detail = self._transport.get(path, shapes.RolloutDetail, cursor=detail.next)
            devices += detail.devices
        return first.model_copy(update={"devices": devices, "next": None})

    def order_rollout(self, rollout: str, order: shapes.Order) -> shapes.Rollout:
        """Tell a rollout what to do."""
        path = path_of("/rollouts/{}/orders", rollout)
        return self._transport.post(path, shapes.Rollout, order)

    def roll_back(self, to: str) -> shapes.Rollout:
        """Roll out once more what an earlier rollout or deployment brought."""
        wish = shapes.Rollback.make(to=to)
        return self._transport.post("/rollouts/rollback", shapes.Rollout, wish)

    def plan(self, document: shapes.DeploymentDocument) -> shapes.Plan:
        """Return what a document would do."""
        return self._transport.post("/rollouts/plan", shapes.Plan, document)

    def explanation(self, device: str) -> shapes.Explanation:
        """Return why a device runs what it runs, and what blocks the next."""
        return self._transport.get(path_of("/devices/{}/explanation", device), shapes.Explanation)
