"""Files beside the gateway's configuration: pure.

    gateway.json    what the gateway follows
    applied.json    what the target was told last, so that it can be observed without being told
    status-*.json   what each gateway says

A configuration also changes when only replicas come and go, and the target has to know when that
one is in force. So the generation that the gateway sees is that of the wish, and a serial number.
"""

import msgspec

from cloud.hosting.targets import RevisionWish, Wish
from runtime.gateway import config as gateway_config
from runtime.gateway.config import Config, Status

SERIALS = 1_000_000
"""As many configurations fit in one generation of a wish."""


class AppliedRevision(msgspec.Struct, frozen=True):
    """What was asked for of one revision."""

    number: int
    wanted: int
    image: str
    model: str
    version: int
    bundle: str
    spec: str
    """Fingerprint of its containers."""
    cpu: float | None = None
    memory_mb: int | None = None


class Applied(msgspec.Struct, frozen=True):
    """What was asked for of a service."""

    generation: int
    gateway_image: str
    revisions: tuple[AppliedRevision, ...]
    weights: dict[str, int] = {}


def decode(data: bytes | None) -> Applied | None:
    """Return what was asked for; None if nothing was, or the file is no good."""
    try:
        return msgspec.json.decode(data or b"", type=Applied)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def encode(applied: Applied) -> bytes:
    """Return the file's bytes."""
    return msgspec.json.encode(applied)


def of(wish: Wish, specs: dict[int, str]) -> Applied:
    """Return what a wish asks for; `specs` are the fingerprints of its revisions' containers."""
    return Applied(
        generation=wish.generation,
        gateway_image=wish.gateway_image,
        revisions=tuple(_revision(each, specs[each.number]) for each in wish.revisions),
        weights={each.name: each.weight for each in wish.gateway.revisions},
    )


def _revision(wish: RevisionWish, spec: str) -> AppliedRevision:
    return AppliedRevision(
        number=wish.number,
        wanted=wish.scale.least,
        image=wish.image,
        model=wish.model,
        version=wish.version,
        bundle=wish.bundle,
        spec=spec,
        cpu=wish.resources.cpu,
        memory_mb=wish.resources.memory_mb,
    )


def config(data: bytes | None) -> Config | None:
    """Return the installed configuration; None if there is none, or it is no good."""
    try:
        return msgspec.json.decode(data or b"", type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def next_config(wished: Config, installed: Config | None) -> Config:
    """Return the configuration to install: with the installed one's number if it is the same."""
    base = wished.generation * SERIALS
    if installed is not None:
        same = msgspec.structs.replace(wished, generation=installed.generation)
        if same == installed and installed.generation // SERIALS == wished.generation:
            return installed
        base = max(base, installed.generation + 1)
    return msgspec.structs.replace(wished, generation=base)


def config_bytes(made: Config) -> bytes:
    """Return the file's bytes; raise InvalidError if no gateway would take them."""
    data = gateway_config.encode(made)
    gateway_config.decode(data)
    return data


def status(data: bytes | None) -> Status | None:
    """Return what a gateway says, with its own number of the configuration; None if nothing."""
    try:
        return msgspec.json.decode(data or b"", type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def wish_generation(told: Status) -> Status:
    """Return a status that names the generation of the wish."""
    return msgspec.structs.replace(told, generation=told.generation // SERIALS)
