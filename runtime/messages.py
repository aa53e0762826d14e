"""What travels over MQTT between the registry and a device, except telemetry batches.

Every message is one JSON object. Receivers ignore fields they do not know, so that old devices
survive new registries; senders never change what a field means. Decoding bounds the size first.
Specified in docs/specs/manifest.md and docs/specs/mqtt.md.
"""

import enum
from typing import Any, TypeVar

import msgspec

from runtime.candidates import Candidate, CandidateReport
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.imagelogins import ImageLogins

FORMAT = 1
MAX_MESSAGE_BYTES = 256 * 1024
MAX_OFFER_BLOBS = 64
"""How many blobs one request may name."""
MAX_HELD_BUNDLES = 32
"""How many bundles a device may say that it holds."""

Message = TypeVar("Message", bound=msgspec.Struct)


class Phase(enum.Enum):
    """Where a module is on its way to what is desired."""

    FETCHING = "fetching"
    VERIFYING = "verifying"
    STAGED = "staged"
    CHECKING = "checking"
    RUNNING = "running"
    FAILED = "failed"


class Capture(msgspec.Struct, frozen=True, omit_defaults=True):
    """What of each prediction is recorded."""

    outputs: bool = True
    """Record the outputs (at most 64 values of each tensor)."""
    inputs: float = 0.0
    """Record the inputs of this fraction of predictions, 0 to 1."""


METERED_ALLOW = "allow"
"""A wish that may be fetched over a link that costs by the byte."""
BY_HAND = "by-hand"
"""In place of a deployment's id: somebody applied a file on the device itself."""


class ModuleSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing that a device shall run."""

    name: str
    """Unique on the device; what applications ask for. 1 to 63 of a-z, 0-9 and '-'."""
    bundle: Digest
    """The bundle's identity: the SHA-256 of its index, which is itself a blob."""
    model: str
    version: int
    deployment: str
    """Id of the deployment that asks for this."""
    attempt: int = 0
    """Raised by an operator who wants a refused bundle tried again."""
    sources: tuple[str, ...] | None = None
    """Where inputs come from, as URIs (docs/specs/manifest.md); None: what the bundle says."""
    capture: Capture = Capture()
    soak_s: float = 30.0
    """How long the version before stays warm after a switch, in seconds."""
    candidate: Candidate | None = None
    """What runs beside it to be measured; agents that do not know it run without."""
    budget_bytes: int | None = None
    """The device spends no more than this on downloading the bundle in one attempt; None: any."""
    metered: str = ""
    """METERED_ALLOW: also over a metered link; anything else: the device waits for another."""
    not_before: float | None = None
    """Seconds since 1970: no download before."""
    not_after: float | None = None
    """Seconds since 1970: no download from then on."""


class Desired(msgspec.Struct, frozen=True, omit_defaults=True):
    """All that a device shall run: the whole truth, not a change to it."""

    device: str
    generation: int
    """Rises by one with every change of this device's desired state."""
    issued_at: float
    modules: tuple[ModuleSpec, ...] = ()
    fleet: int = 0
    """About how many devices share the broker: they come back to it over a time as long as that
    asks for. 0: not said."""
    image_logins: ImageLogins | None = None
    """Who the device is to image registries, sealed for it; None: nobody, as far as we know."""
    format: int = FORMAT


class RunningVersion(msgspec.Struct, frozen=True):
    """What answers inference now."""

    bundle: Digest
    model: str
    version: int


class Progress(msgspec.Struct, frozen=True):
    """Bytes of a download."""

    done_bytes: int
    total_bytes: int


class Transfer(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a bundle's way to a device has cost."""

    received_bytes: int
    """Came over the network for it: encoded bytes and part tables, also those that came twice."""
    whole_bytes: int
    """The encoded bytes that it would have taken without deltas."""
    neighbour_bytes: int = 0
    """Came from neighbours on the local network, not counted above."""


class ModuleReport(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one module is, and why."""

    name: str
    phase: Phase
    bundle: Digest
    """What the phase speaks of: the wanted bundle."""
    model: str
    version: int
    deployment: str
    since: float
    """When this phase began, device clock, seconds since 1970."""
    reason: str = ""
    """Why it is not further; one sentence with what to do. Never empty when phase is failed."""
    retrying: bool = False
    """The device tries again by itself."""
    attempt: int = 0
    running: RunningVersion | None = None
    """What answers inference now: the wanted bundle, the one before, or nothing."""
    progress: Progress | None = None
    restarts: int = 0
    """How often its worker was started again after a crash."""
    transfer: Transfer | None = None
    """Of the wanted bundle, once it was fetched; None: not fetched in this life of the agent."""
    candidate: CandidateReport | None = None
    """What runs beside it to be measured. Once promoted, it is the wanted bundle on this device."""


class Reported(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device's state, whole."""

    device: str
    generation: int
    """The newest desired state that this device has durably taken over; 0: none."""
    at: float
    modules: tuple[ModuleReport, ...] = ()
    facts: dict[str, str] = {}
    """What does not change while running: arch, os, python, agent, accelerator, memory_mb..."""
    vitals: dict[str, float] = {}
    """What does: load_1m, memory_free_mb, disk_free_mb, temperature_c, outbox_records..."""
    drops: dict[str, int] = {}
    """Records not kept, by reason."""
    troubles: tuple[str, ...] = ()
    """What a person should look at: 'clock: reads 1970-01-01...'."""
    format: int = FORMAT


class Presence(msgspec.Struct, frozen=True):
    """Whether the device's connection stands; the offline one is its last will."""

    online: bool
    at: float
    lease_s: float
    """Without a word for this long, the device counts as unknown, whatever `online` says."""


class FetchRequest(msgspec.Struct, frozen=True, omit_defaults=True):
    """A device asks how to download blobs of its desired bundles."""

    id: str
    blobs: tuple[Digest, ...]
    """At most 64."""
    encodings: tuple[str, ...]
    """What it can decode. Without an encoding that builds on a base, it is offered none."""
    bundle: Digest | None = None
    """The bundle that these blobs are of."""
    held: tuple[Digest, ...] = ()
    """Bundles whose files the device has, newest first; at most 32."""
    memory_bytes: int | None = None
    """What decoding may use; None: not said, so nothing is offered that needs much."""
    lan: str = ""
    """Where the device gives parts to neighbours: address and port; "": it does not."""


class Offer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where one blob can be had until the URL expires."""

    blob: Digest
    size: int
    encoding: str
    encoded_size: int
    url: str
    """The encoded bytes; honours HTTP Range."""
    parts_url: str
    parts_sha256: Digest
    """Digest of the part table behind `parts_url`."""
    base: Digest | None = None
    """The blob on which the encoding builds: one of a bundle that the device has."""
    whole_size: int = 0
    """Encoded bytes of the same blob without a base; 0: these are they."""
    peers: tuple[str, ...] = ()
    """Where neighbours may give the same parts: addresses and ports."""
    wait_s: float = 0.0
    """How long to wait for neighbours that show no progress, before the URL is used."""


class FetchResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """Offers, or why there are none."""

    id: str
    """That of the request."""
    offers: tuple[Offer, ...] = ()
    error: str = ""
    retryable: bool = True


CHECK = "check"
"""The command that has a module's worker run its bundle's check again."""


class Command(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something that a device shall do once, now; it is not kept for a device that is away."""

    id: str
    kind: str
    """CHECK, or of runtime.operations; a device answers that it does not know others."""
    module: str = ""
    """Which module is meant; empty: the agent itself."""
    bundle: Digest | None = None
    """Do it only if this bundle answers inference; None: whichever does."""
    deadline_s: float = 60.0
    """How long whoever asked waits, from now on: what takes longer is given up."""
    options: dict[str, str] = {}
    """What the kind takes: runtime.operations."""


class CommandResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """What came of a command, or one piece of it: see runtime.pieces."""

    id: str
    """That of the command."""
    ok: bool
    text: str = ""
    """What was measured, or why not."""
    bundle: Digest | None = None
    """What it was done with."""
    facts: dict[str, str] = {}
    """What programs may want to read of it; in the first piece alone."""
    data: bytes = b""
    """What was asked for, or a piece of it."""
    piece: int = 0
    """Which piece this is, from 0."""
    pieces: int = 1


class Ack(msgspec.Struct, frozen=True, omit_defaults=True):
    """Batches that the registry has committed or set aside: the device may delete them."""

    epoch: str
    stored: tuple[int, ...] = ()
    """Sequence numbers."""
    rejected: tuple[int, ...] = ()
    """Sequence numbers of batches that could not be read; the registry keeps the bytes."""


def encode(message: msgspec.Struct) -> bytes:
    """Return a message as it travels."""
    return msgspec.json.encode(message)


def decode(kind: type[Message], payload: bytes) -> Message:
    """Return the message in a payload; raise InvalidError naming the field that is wrong."""
    if len(payload) > MAX_MESSAGE_BYTES:
        raise InvalidError(
            kind.__name__, f"{len(payload)} bytes", f"send at most {MAX_MESSAGE_BYTES}"
        )
    try:
        return msgspec.json.decode(payload, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError(kind.__name__, payload[:80], str(error)) from error


def canonical_json(value: Any) -> bytes:
    """Return the one JSON text of a value: keys sorted, no white space, UTF-8."""
    return msgspec.json.encode(value, order="sorted")
