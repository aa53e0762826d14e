"""What devices may be offered: what their desired states name, for many devices by one look."""

from collections.abc import Collection

from sqlmodel import Session, col, select

from cloud import tables
from cloud.registry import candidates, desired
from runtime.digests import Digest
from runtime.messages import FetchRequest, FetchResponse
from runtime.topics import DeviceId


class Rights:
    """As of one moment: devices that shall run the same, as after a deployment, share a look."""

    def __init__(self, session: Session, devices: Collection[DeviceId]) -> None:
        """Look up what these devices shall run."""
        self._session = session
        self._wanted = desired.read_all(session, devices)
        self._blobs: dict[tuple[Digest, ...], set[str]] = {}

    def refusal(self, device: DeviceId, request: FetchRequest) -> FetchResponse | None:
        """Return why not, unless the device's desired state names every one of these blobs."""
        wanted = self._wanted.get(device)
        bundles = candidates.bundles(wanted.modules if wanted else ())
        allowed = self._blobs_of(tuple(bundles))
        refused = [blob for blob in request.blobs if blob not in allowed]
        if not refused:
            return None
        # A bundle's identity is the digest of its index, the first thing that a device asks for.
        found = bundles.get(refused[0])
        if found is not None:
            module, model, version = found
            text = (
                f"desired state for an unknown bundle: {module.name} shall run {model} version "
                f"{version} ({refused[0]}), which this registry does not have: push it again"
            )
            # Whoever pushes it again need not ask every device to try again.
            return FetchResponse(request.id, error=text, retryable=True)
        text = f"blob {refused[0]} is not part of what {device} shall run"
        # The device may act on a desired state that is just being replaced.
        return FetchResponse(request.id, error=text, retryable=True)

    def _blobs_of(self, bundles: tuple[Digest, ...]) -> set[str]:
        if bundles not in self._blobs:
            query = select(tables.BundleBlob.blob).where(col(tables.BundleBlob.bundle).in_(bundles))
            self._blobs[bundles] = set(self._session.exec(query))
        return self._blobs[bundles]
