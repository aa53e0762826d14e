"""Answers a device that asks how to download blobs.

A device is offered only what its own desired state names: the index of each bundle, and the files
that the index lists. Everything else does not exist for it.
"""

import logging
import threading
from collections.abc import Callable

from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, select

from cloud import tables
from cloud.messaging import intake
from cloud.messaging.intake import Arrival, Inbox
from cloud.registry import desired
from cloud.services import Services
from cloud.storage.encodings import Recipe
from runtime import messages
from runtime.bundle import encodings
from runtime.digests import Digest
from runtime.errors import InvalidError, LinkError, PackhorseError
from runtime.link import Received
from runtime.messages import FetchRequest, FetchResponse, Offer
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

GROUP = 16
MAX_ID_CHARACTERS = 128
_LOOK_S = 0.5


class Responder:
    """Answers requests, one after the other, in a thread of its own."""

    def __init__(
        self,
        services: Services,
        inbox: Inbox,
        *,
        base_url: str,
        ack: Callable[[Received], None],
        tell: Callable[[DeviceId, FetchResponse], None],
    ) -> None:
        """`base_url` is where devices reach the registry, "" where they enrolled.

        `tell` may raise LinkError.
        """
        self._services, self._inbox = services, inbox
        self._base_url, self._ack, self._tell = base_url.rstrip("/"), ack, tell

    def run(self, stopping: threading.Event) -> None:
        """Answer until `stopping`."""
        while not stopping.is_set():
            for arrival in intake.take(self._inbox, most=GROUP, wait_s=_LOOK_S):
                self.handle(arrival)

    def handle(self, arrival: Arrival) -> None:
        """Answer one request. One that cannot be answered now is dropped: the device asks again."""
        try:
            request = _read(arrival)
            self._tell(arrival.device, self.answer(arrival.device, request))
        except (InvalidError, LinkError, OperationalError) as error:
            log.warning("request not answered", extra={"device": arrival.device, "why": str(error)})
        self._ack(arrival.message)

    def answer(self, device: DeviceId, request: FetchRequest) -> FetchResponse:
        """Return an offer for each blob that was asked for, or why there is none."""
        try:
            encoding = _choose(request)
            with self._services.reading() as session:
                refused = _refusal(session, device, request)
            if refused is not None:
                log.warning("no offer", extra={"device": device, "why": refused.error})
                return refused
            offers = tuple(self._offer(blob, encoding) for blob in request.blobs)
        except PackhorseError as error:
            log.warning("no offer", extra={"device": device, "why": str(error)})
            return FetchResponse(request.id, error=str(error), retryable=error.retryable)
        return FetchResponse(request.id, offers=offers)

    def _offer(self, blob: Digest, encoding: str) -> Offer:
        try:
            encoded = self._services.encodings.get(Recipe(blob, encoding))
        except InvalidError as error:
            text = f"this registry has lost blob {blob}: push the bundle again, or mount its disk"
            raise LinkError(text) from error
        sign = self._services.presigner
        return Offer(
            blob=blob,
            size=encoded.table.size,
            encoding=encoding,
            encoded_size=encoded.table.encoded_size,
            url=self._base_url + sign.blob(encoding, blob),
            parts_url=self._base_url + sign.parts(encoding, blob),
            parts_sha256=encoded.table_sha256,
        )


def _read(arrival: Arrival) -> FetchRequest:
    request = messages.decode(FetchRequest, arrival.message.payload)
    if len(request.id) > MAX_ID_CHARACTERS:
        raise InvalidError("id", request.id, f"use at most {MAX_ID_CHARACTERS} characters")
    return request


def _choose(request: FetchRequest) -> str:
    """Return the best encoding that both sides know; raise InvalidError if there is none."""
    if len(request.blobs) > messages.MAX_OFFER_BLOBS:
        fix = f"ask for at most {messages.MAX_OFFER_BLOBS} at once"
        raise InvalidError("blobs", f"{len(request.blobs)} blobs", fix)
    for known in encodings.DECODABLE:
        if known in request.encodings:
            return known
    fix = f"this registry sends {', '.join(encodings.DECODABLE)}: upgrade the agent"
    raise InvalidError("encodings", ", ".join(request.encodings), fix)


def _refusal(session: Session, device: DeviceId, request: FetchRequest) -> FetchResponse | None:
    """Return why not, unless the device's desired state names every one of these blobs."""
    wanted = desired.read(session, device)
    bundles = {module.bundle: module for module in (wanted.modules if wanted else ())}
    query = select(tables.BundleBlob.bundle, tables.BundleBlob.blob)
    rows = session.exec(query.where(col(tables.BundleBlob.bundle).in_(bundles))).all()
    allowed = {blob for _, blob in rows}
    refused = [blob for blob in request.blobs if blob not in allowed]
    if not refused:
        return None
    # A bundle's identity is the digest of its index, the first thing that a device asks for.
    module = bundles.get(refused[0])
    if module is not None:
        text = (
            f"desired state for an unknown bundle: {module.name} shall run {module.model} version "
            f"{module.version} ({module.bundle}), which this registry does not have: push it again"
        )
        # Whoever pushes it again need not ask every device to try again.
        return FetchResponse(request.id, error=text, retryable=True)
    text = f"blob {refused[0]} is not part of what {device} shall run"
    # The device may act on a desired state that is just being replaced.
    return FetchResponse(request.id, error=text, retryable=True)
