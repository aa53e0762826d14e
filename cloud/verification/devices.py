"""A version's check on devices: each runs it again in the very worker that answers inference."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

from cloud import shapes
from cloud.client import Client
from cloud.errors import ClientError
from cloud.verification.findings import Finding
from runtime.errors import LinkError

SIDE_BY_SIDE = 8
Connect = Callable[[], AbstractContextManager[Client]]


def running(
    registry: Client, bundle: str, selector: str | None, devices: Sequence[str]
) -> list[tuple[str, str]]:
    """Return (device, module) wherever this bundle answers inference, by the devices' reports."""
    found = [registry.device(each) for each in devices] or registry.devices(selector)
    return [
        (device.id, module.name)
        for device in found
        if device.revoked_at is None
        for module in device.modules
        if module.running is not None and module.running.bundle == bundle
    ]


def verify(
    connect: Connect, bundle: str, places: Sequence[tuple[str, str]], *, timeout_s: float
) -> Iterator[Finding]:
    """Yield what each device finds, in the order of `places`.

    Each thread connects for itself: a client is not for several at once.
    """

    def one(place: tuple[str, str]) -> Finding:
        device, module = place
        where = f"device {device}"
        wish = shapes.NewCommand(kind="check", module=module, bundle=bundle, timeout_s=timeout_s)
        try:
            with connect() as registry:
                result = registry.command(device, wish)
        except (ClientError, LinkError) as error:
            return Finding(where, ok=False, text=str(error), asked=False)
        return Finding(where, result.ok, result.text)

    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        yield from pool.map(one, places)
