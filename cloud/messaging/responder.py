"""Answers a device that asks how to download blobs.

A device is offered only what its own desired state names: the index of each bundle, and the files
that the index lists. Everything else does not exist for it.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence

import msgspec
from sqlalchemy.exc import OperationalError
from sqlmodel import Session

from cloud import tables
from cloud.deltas.selection import Choice, Selection
from cloud.messaging import intake
from cloud.messaging.intake import Arrival, Inbox
from cloud.messaging.neighbours import Neighbours
from cloud.messaging.rights import Rights
from cloud.services import Services
from runtime import digests, messages
from runtime.errors import InvalidError, LinkError, PackhorseError
from runtime.link import Received
from runtime.messages import FetchRequest, FetchResponse, Offer
from runtime.topics import DeviceId

log = logging.getLogger(__name__)

GROUP = 64
MAX_ID_CHARACTERS = 128
MAX_ENCODINGS = 32
RECENT_S = 1.0
"""So long the same is offered to all: what is made meanwhile is offered after it."""
MAX_RECENT = 64
_LOOK_S = 0.5

Question = tuple[DeviceId, FetchRequest]


class Responder:
    """Answers requests, group by group, in a thread of its own."""

    def __init__(
        self,
        services: Services,
        inbox: Inbox,
        *,
        base_url: str,
        ack: Callable[[Sequence[Received]], None],
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
            if group := intake.take(self._inbox, most=GROUP, wait_s=_LOOK_S):
                self.handle(group)

    def handle(self, group: Sequence[Arrival]) -> None:
        """Answer requests. One that cannot be answered now is dropped: the device asks again.

        So of those that ask the same twice the later one is meant: the first was given up.
        """
        asked: dict[tuple[DeviceId, FetchRequest], FetchRequest] = {}
        for arrival in group:
            if (request := _read(arrival)) is not None:
                asked[arrival.device, msgspec.structs.replace(request, id="")] = request
        try:
            questions = [(device, request) for (device, _), request in asked.items()]
            for (device, _), answer in zip(questions, self._answers(questions), strict=True):
                self._try_to_tell(device, answer)
        except OperationalError as error:
            for device, _ in asked:
                _note_unanswered(device, error)
        self._ack([arrival.message for arrival in group])

    def _try_to_tell(self, device: DeviceId, answer: FetchResponse) -> None:
        try:
            self._tell(device, answer)
        except (InvalidError, LinkError) as error:
            _note_unanswered(device, error)

    def answer(self, device: DeviceId, request: FetchRequest) -> FetchResponse:
        """Return an offer for each blob that was asked for, or why there is none."""
        return next(self._answers([(device, request)]))

    def _answers(self, questions: Sequence[Question]) -> Iterator[FetchResponse]:
        """Yield the answer to each question; what they may have is looked up for all together."""
        with self._services.reading() as session:
            rights = Rights(session, {device for device, _ in questions})
            judged = [self._judge(session, rights, *question) for question in questions]
        for (device, request), (refused, site) in zip(questions, judged, strict=True):
            yield refused or self._offered(device, request, site)

    def _judge(
        self, session: Session, rights: Rights, device: DeviceId, request: FetchRequest
    ) -> tuple[FetchResponse | None, str]:
        """Return why a device is offered nothing, if so, and its site."""
        try:
            _require_sane(request)
        except InvalidError as error:
            return _nothing(device, request, error), ""
        if (refused := rights.refusal(device, request)) is not None:
            log.warning("no offer", extra={"device": device, "why": refused.error})
            return refused, ""
        return None, self._site(session, device, request)

    def _offered(self, device: DeviceId, request: FetchRequest, site: str) -> FetchResponse:
        try:
            offers = [
                self._advised(self._offer(choice), device, site, request.lan)
                for choice in self._choose(request)
            ]
        except PackhorseError as error:
            return _nothing(device, request, error)
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


def _read(arrival: Arrival) -> FetchRequest | None:
    """Return a request; None, with a log line, if it cannot be read."""
    try:
        return _require_short_id(messages.decode(FetchRequest, arrival.message.payload))
    except InvalidError as error:
        _note_unanswered(arrival.device, error)
        return None


def _require_short_id(request: FetchRequest) -> FetchRequest:
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


def _nothing(device: DeviceId, request: FetchRequest, error: PackhorseError) -> FetchResponse:
    log.warning("no offer", extra={"device": device, "why": str(error)})
    return FetchResponse(request.id, error=str(error), retryable=error.retryable)


def _note_unanswered(device: DeviceId, error: Exception) -> None:
    log.warning("request not answered", extra={"device": device, "why": str(error)})
