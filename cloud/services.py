"""What the registry's parts are handed: collaborators, made once by cloud.serve."""

import contextlib
import enum
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from sqlalchemy import Engine
from sqlmodel import Session

from cloud import database
from cloud.deltas.wishes import Wishes
from cloud.hosting.board import Board
from cloud.hosting.builds import Builds
from cloud.hosting.opening import Targets
from cloud.settings import Settings
from cloud.storage.blobs import Blobs
from cloud.storage.encodings import EncodingStore
from cloud.storage.objects import ObjectStore
from cloud.storage.presence import Presence
from cloud.storage.uploads import Limits, Uploads
from cloud.trust.authority import Authority
from cloud.trust.presign import Presigner
from cloud.trust.sealing import Sealer
from runtime.clock import Clock, SystemClock
from runtime.digests import Digest
from runtime.errors import LinkError, PackhorseError
from runtime.messages import CommandResult
from runtime.topics import DeviceId

log = logging.getLogger(__name__)


class Change(enum.Enum):
    """What a committed transaction changed, as far as someone waits for it."""

    DEVICES = "devices"
    """A device was enrolled or revoked: the broker must know its users."""
    DESIRED = "desired"
    """A desired row has a new generation: the publisher has work."""
    VERSIONS = "versions"
    """A version was registered: deltas to it may be made."""
    SERVICES = "services"
    """A service's wish changed: see cloud.hosting.controller."""
    EVENTS = "events"
    """There is a new event, or a webhook has work: see cloud.api.streams, cloud.webhooks."""


_MARK = "packhorse_changes"
MAX_VERIFYING = 4
"""Requests that verify services at once: each keeps arrays in memory."""


_SEALER = "packhorse_sealer"


def sealer_of(session: Session) -> Sealer:
    """Return what seals the secrets that a session of `Services.transaction` keeps."""
    found = session.info[_SEALER]
    assert isinstance(found, Sealer)
    return found


def mark(session: Session, change: Change) -> None:
    """Note a change; it is told to those who wait once the transaction is committed."""
    session.info.setdefault(_MARK, set()).add(change)


class Notifier:
    """Tells those who wait for a change, in the thread that committed it.

    Callbacks are bounded in time: an enrolment is answered only after they have returned, so that
    the broker knows the new device before the device connects.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: dict[Change, list[Callable[[], None]]] = {change: [] for change in Change}

    def subscribe(self, change: Change, callback: Callable[[], None]) -> None:
        """Have `callback` called after each commit with this change."""
        with self._lock:
            self._callbacks[change].append(callback)

    def tell(self, change: Change) -> None:
        """Call whoever waits for this. Their trouble is logged: what is committed stands."""
        with self._lock:
            callbacks = tuple(self._callbacks[change])
        for callback in callbacks:
            _call(callback, change)


def _call(callback: Callable[[], None], change: Change) -> None:
    try:
        callback()
    except PackhorseError as error:
        log.warning("a change could not be told", extra={"change": change.value, "why": str(error)})


@dataclass(frozen=True)
class BrokerAddress:
    """Where devices find the broker."""

    host: str | None
    """None: at the host of the URL by which they reached the registry."""
    port: int


class AskDevice(Protocol):
    """Has a device do something now: see cloud.messaging.commands."""

    def __call__(
        self,
        device: DeviceId,
        kind: str,
        module: str,
        bundle: Digest | None,
        timeout_s: float,
        *,
        options: Mapping[str, str],
    ) -> CommandResult:
        """Return what came of it."""
        ...


def _nobody_to_ask(device: DeviceId, *_: object, **__: object) -> CommandResult:
    raise LinkError(f"{device}: this registry has no broker: start it with `packhorse serve`")


def _nobody_builds() -> Builds:
    raise LinkError("images: this registry builds none: start it with `packhorse serve`")


@dataclass(frozen=True)
class Services:
    """All that API and threads share."""

    settings: Settings
    engine: Engine
    store: ObjectStore
    blobs: Blobs
    encodings: EncodingStore
    authority: Authority
    presigner: Presigner
    broker: BrokerAddress
    notifier: Notifier = field(default_factory=Notifier)
    board: Board = field(default_factory=Board)
    """How services are, as was seen last."""
    wishes: Wishes = field(default_factory=Wishes)
    """What devices could have used of deltas."""
    clock: Clock = field(default_factory=SystemClock)
    stopping: threading.Event = field(default_factory=threading.Event)
    """Set when the registry ends: answers without an end are ended."""
    collecting: threading.Lock = field(default_factory=threading.Lock)
    """Held by whoever collects garbage."""
    comparing: threading.Lock = field(default_factory=threading.Lock)
    """Held by whoever compares two versions."""
    verifying: threading.Semaphore = field(
        default_factory=lambda: threading.BoundedSemaphore(MAX_VERIFYING)
    )
    """Held by whoever asks services their checks."""
    ask_device: AskDevice = _nobody_to_ask
    """Has a device do something now: see cloud.messaging.commands."""
    builds: Callable[[], Builds] = _nobody_builds
    """What makes images: that of cloud.hosting.controller."""
    duties: Callable[[], Mapping[str, bool]] = dict
    """Which threads of the registry do their work, by name; /healthz shows them."""

    @functools.cached_property
    def sealer(self) -> Sealer:
        """What seals secrets that are kept in the database."""
        return Sealer.open(self.settings.secrets_directory)

    def __post_init__(self) -> None:
        """Make what sweeps a directory, or makes a key in it, before any thread can use it."""
        _ = self.uploads, self.sealer

    @functools.cached_property
    def targets(self) -> Targets:
        """Where services run; each is connected to when it is first asked for."""
        return Targets(self.settings)

    @functools.cached_property
    def presence(self) -> Presence:
        """Which blobs are here: what everything asks that wants to refer to one."""
        grace_s = self.settings.gc_grace_s
        return Presence(self.engine, self.blobs, self.clock, grace_s=grace_s)

    @functools.cached_property
    def uploads(self) -> Uploads:
        """Large blobs that are coming in pieces."""
        chosen = self.settings
        limits = Limits(
            blob_bytes=chosen.max_blob_bytes,
            count=chosen.max_uploads,
            total_bytes=chosen.max_uploads_bytes,
            ttl_s=chosen.upload_ttl_s,
        )
        return Uploads(chosen.data / "uploads", self.blobs, self.clock, limits)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[Session]:
        """Open a session that may write; after the commit, tell what was marked in it."""
        with database.transaction(self.engine) as session:
            session.info[_SEALER] = self.sealer
            yield session
        # DEVICES before DESIRED: rights first, then what they allow to read.
        for change in Change:
            if change in session.info.get(_MARK, ()):
                self.notifier.tell(change)

    @contextlib.contextmanager
    def appending(self) -> Iterator[Session]:
        """Open a session that adds rows which no `transaction` reads, such as telemetry."""
        with database.appending(self.engine) as session:
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """Open a session on one consistent view; it must not write."""
        with database.reading(self.engine) as session:
            yield session
