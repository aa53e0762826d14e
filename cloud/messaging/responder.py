"""Answers a device that asks how to download blobs.

A device is offered only what its own desired state names: the index of each bundle, and the files
that the index lists. Everything else does not exist for it.
"""

import logging
import threading
from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy.exc import OperationalError
from sqlmodel import Session, col, select

from cloud import tables
from cloud.deltas.selection import Choice, Selection
from cloud.messaging import intake
from cloud.messaging.intake import Arrival, Inbox
from cloud.messaging.neighbours import Neighbours
from cloud.registry import candidates, desired
from cloud.services import Services
from runtime import digests, messages
from runtime.errors import InvalidError, LinkError, PackhorseError
from runtime.link import Received
from runtime.messages import FetchRequest, FetchResponse, Offer
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

GROUP = 16
MAX_ID_CHARACTERS = 128
MAX_ENCODINGS = 32
RECENT_S = 1.0
"""So long the same is offered to all: what is made meanwhile is offered after it."""
MAX_RECENT = 64
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
        self._selection, self._neighbours = Selection(services), Neighbours()
        self._recent = _Recent(services.clock.now)

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
            _require_sane(request)
            with self._services.reading() as session:
                refused = _refusal(session, device, request)
                site = self._site(session, device, request)
            if refused is not None:
                log.warning("no offer", extra={"device": device, "why": refused.error})
                return refused
            offers = [
                self._advised(self._offer(choice), device, site, request.lan)
                for choice in self._choose(request)
            ]
        except PackhorseError as error:
            log.warning("no offer", extra={"device": device, "why": str(error)})
            return FetchResponse(request.id, error=str(error), retryable=error.retryable)
        return _fitting(FetchResponse(request.id, offers=tuple(offers)))

    def _site(self, session: Session, device: DeviceId, request: FetchRequest) -> str:
        """Return the site of a device that shares with neighbours; "": it does not."""
        row = session.get(tables.Device, device) if request.lan else None
        return "" if row is None else row.labels.get(self._services.settings.site_label, "")

    def _advised(self, offer: Offer, device: DeviceId, site: str, lan: str) -> Offer:
        """Return an offer with the neighbours that may give the same."""
        if not site:
            return offer
        now = self._services.clock.monotonic()
        try:
            advice = self._neighbours.advise(site, offer.parts_sha256, device, lan, now=now)
        except InvalidError as error:  # the device gets its bytes all the same
            log.warning("no neighbours", extra={"device": device, "why": str(error)})
            return offer
        return msgspec.structs.replace(offer, peers=advice.peers, wait_s=advice.wait_s)

    def _choose(self, request: FetchRequest) -> Sequence[Choice]:
        """Choose; devices that ask the same in one moment, as after a deployment, get the same."""
        asked = msgspec.structs.replace(request, id="", lan="")
        if (choices := self._recent.get(asked)) is None:
            choices = self._selection.choose(request)
            self._recent.put(asked, choices)
        return choices

    def _offer(self, choice: Choice) -> Offer:
        """Return an offer, with URLs of the object store if it gives any, else of our own."""
        services, encoded = self._services, choice.encoded
        recipe, sign = encoded.recipe, self._services.presigner
        services.wishes.used(recipe, services.clock.now())
        named = (recipe.encoding, recipe.blob, recipe.base)
        url = services.store.url(encoded.key, ttl_s=sign.ttl_s)
        parts_url = services.store.url(encoded.table_key, ttl_s=sign.ttl_s)
        return Offer(
            blob=recipe.blob,
            size=encoded.table.size,
            encoding=recipe.encoding,
            encoded_size=encoded.table.encoded_size,
            url=url or self._base_url + sign.blob(*named),
            parts_url=parts_url or self._base_url + sign.parts(*named),
            parts_sha256=encoded.table_sha256,
            base=recipe.base,
            whole_size=0 if recipe.base is None else choice.whole_size,
        )


class _Recent:
    """What was chosen in the last moment."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now, self._since = now, 0.0
        self._choices: dict[FetchRequest, Sequence[Choice]] = {}

    def get(self, asked: FetchRequest) -> Sequence[Choice] | None:
        if not 0.0 <= self._now() - self._since < RECENT_S:
            self._choices, self._since = {}, self._now()
        return self._choices.get(asked)

    def put(self, asked: FetchRequest, choices: Sequence[Choice]) -> None:
        if len(self._choices) < MAX_RECENT:
            self._choices[asked] = choices


def _read(arrival: Arrival) -> FetchRequest:
    request = messages.decode(FetchRequest, arrival.message.payload)
    if len(request.id) > MAX_ID_CHARACTERS:
        raise InvalidError("id", request.id, f"use at most {MAX_ID_CHARACTERS} characters")
    return request


def _require_sane(request: FetchRequest) -> None:
    """Raise InvalidError if a request names too much, or what cannot be."""
    for field, named, kind, most in (
        ("blobs", request.blobs, "digests", messages.MAX_OFFER_BLOBS),
        ("held", request.held, "digests", messages.MAX_HELD_BUNDLES),
        ("encodings", request.encodings, "encodings", MAX_ENCODINGS),
    ):
        if len(named) > most:
            raise InvalidError(field, f"{len(named)} {kind}", f"name at most {most} at once")
    for blob in request.blobs:
        digests.parse(blob, "blobs")
    if request.memory_bytes is not None and request.memory_bytes < 0:
        raise InvalidError("memory_bytes", request.memory_bytes, "say 0 if there is none")


def _fitting(response: FetchResponse) -> FetchResponse:
    """Return an answer that may travel: the device asks again for what did not fit."""
    while len(messages.encode(response)) > messages.MAX_MESSAGE_BYTES:
        fewer = response.offers[: len(response.offers) // 2]
        response = msgspec.structs.replace(response, offers=fewer)
    return response


def _refusal(session: Session, device: DeviceId, request: FetchRequest) -> FetchResponse | None:
    """Return why not, unless the device's desired state names every one of these blobs."""
    wanted = desired.read(session, device)
    bundles = candidates.bundles(wanted.modules if wanted else ())
    query = select(tables.BundleBlob.bundle, tables.BundleBlob.blob)
    rows = session.exec(query.where(col(tables.BundleBlob.bundle).in_(bundles))).all()
    allowed = {blob for _, blob in rows}
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
