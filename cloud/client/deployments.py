"""Deployments, by the client."""

from collections.abc import Iterator

from cloud import schema, shapes
from cloud.client.calls import Calls
from cloud.transport import path_of


class DeploymentCalls(Calls):
    """What shall run where."""

    def deploy(self, wish: shapes.NewDeployment) -> shapes.Deployment:
        """Make a deployment."""
        return self._transport.post("/deployments", shapes.Deployment, wish)

    def deployments(self) -> Iterator[shapes.Deployment]:
        """Yield all deployments, newest first."""
        return self._transport.pages("/deployments", schema.Page[shapes.Deployment])

    def deployment(self, deployment: str) -> shapes.DeploymentDetail:
        """Return a deployment and where each of its devices is."""
        path = path_of("/deployments/{}", deployment)
        detail = first = self._transport.get(path, shapes.DeploymentDetail)
        devices = list(first.devices)
        while detail.next is not None:
            detail = self._transport.get(path, shapes.DeploymentDetail, cursor=detail.next)
            devices += detail.devices
        return first.model_copy(update={"devices": devices, "next": None})

    def cancel(self, deployment: str) -> shapes.Deployment:
        """Withdraw a deployment."""
        return self._transport.post(
            path_of("/deployments/{}/cancel", deployment), shapes.Deployment, again=True
        )

    def retry(self, deployment: str) -> shapes.Deployment:
        """Have devices that refused try again."""
        return self._transport.post(path_of("/deployments/{}/retry", deployment), shapes.Deployment)

    def promote(self, deployment: str) -> shapes.Deployment:
        """Make its candidate the version."""
        path = path_of("/deployments/{}/promote", deployment)
        return self._transport.post(path, shapes.Deployment)
