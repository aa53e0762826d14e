"""What a gateway is told: one JSON file, replaced as a whole, read again whenever it changes.

    Config
    ├── keys        who may ask, and how often
    ├── revisions   who answers, with which share of the traffic
    └── mirror      whose answers are compared, but never given

A file that cannot be read changes nothing: the gateway goes on with what it had and says so in its
status. Keys are held as SHA-256 (hex), so the file tells nobody one.
"""

import math
import re

import msgspec

from runtime.errors import InvalidError

MAX_CONFIG_BYTES = 1 << 20
WEIGHT_TOTAL = 100
_BACKEND = re.compile(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token bucket."""

    per_s: float
    """Requests a second, in the long run."""
    burst: int
    """Requests at once, after a pause."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Somebody who may ask, by `Authorization: Bearer KEY`."""

    name: str
    sha256: str
    limit: Limit | None = None
    """None: as often as they like."""


class Revision(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A revision of the service that takes traffic, or may soon."""

    name: str
    """"r3"."""
    weight: int
    """Share of the traffic in percent; all weights together are WEIGHT_TOTAL, or nobody answers."""
    backends: tuple[str, ...] = ()
    """HOST:PORT of each replica's HTTP; on Kubernetes one name that stands for all."""
    grpc_backends: tuple[str, ...] = ()


class Capture(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which requests are kept, with their answers, for people to look at or to train on."""

    fraction: float
    """0 to 1."""
    max_body_bytes: int = 65_536
    """Larger bodies are not kept."""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that one service's gateway needs to know."""

    service: str
    generation: int
    """Rises with each change; the status names the one in force."""
    revisions: tuple[Revision, ...] = ()
    keys: tuple[Key, ...] = ()
    anonymous: bool = False
    """Let everybody ask, without a key."""
    mirror: str | None = None
    """The revision that is sent a copy of what others answer."""
    mirror_fraction: float = 1.0
    capture: Capture | None = None
    timeout_s: float = 60.0
    """Of one request, tries together."""
    max_body_bytes: int = 64 * 1024 * 1024


class RevisionStats(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a gateway has seen of one revision since it started."""

    name: str
    requests: int = 0
    errors: int = 0
    """Answers of 500 and above, and requests that no replica answered."""
    latency_ms: tuple[int, ...] = ()
    """Requests by latency: counts for each of LATENCY_BOUNDS_MS, then one for all above."""
    compared: int = 0
    """Mirrored answers that were compared to the given ones."""
    different: int = 0


LATENCY_BOUNDS_MS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 10_000.0)


class Status(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a gateway says of itself: GET /-/status on its admin port, and its status file."""

    service: str
    generation: int
    """Of the configuration in force; 0: it has none yet."""
    started_at: float
    """Tells a restart, which sets all counts to 0. Seconds since 1970."""
    trouble: str = ""
    """Why the newest configuration is not in force."""
    revisions: tuple[RevisionStats, ...] = ()
    healthy: dict[str, tuple[str, ...]] = {}
    """Revision to its backends that answer."""


def decode(data: bytes) -> Config:
    """Return a configuration; raise InvalidError naming what is wrong with it."""
    if len(data) > MAX_CONFIG_BYTES:
        raise InvalidError("gateway configuration", len(data), f"use at most {MAX_CONFIG_BYTES}")
    try:
        config = msgspec.json.decode(data, type=Config)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError("gateway configuration", data[:80], str(error)) from error
    _require_sane(config)
    return config


def encode(config: Config) -> bytes:
    """Return the file's bytes."""
    return msgspec.json.format(msgspec.json.encode(config), indent=2)


def _require_sane(config: Config) -> None:
    names = [revision.name for revision in config.revisions]
    if len(set(names)) != len(names):
        raise InvalidError("revisions", names, "name each once")
    weights = [revision.weight for revision in config.revisions]
    if any(weight < 0 for weight in weights) or sum(weights) not in {0, WEIGHT_TOTAL}:
        raise InvalidError("weight", weights, f"let them sum up to {WEIGHT_TOTAL}, or all be 0")
    if config.mirror is not None and config.mirror not in names:
        raise InvalidError("mirror", config.mirror, f"name one of {', '.join(names) or 'none'}")
    for field, fraction in (
        ("mirror_fraction", config.mirror_fraction),
        ("capture.fraction", config.capture.fraction if config.capture else 0.0),
    ):
        if not 0 <= fraction <= 1:
            raise InvalidError(field, fraction, "use 0 to 1")
    _require_sane_numbers(config)
    _require_sane_words(config)


def _require_sane_words(config: Config) -> None:
    for revision in config.revisions:
        for backend in (*revision.backends, *revision.grpc_backends):
            if not _BACKEND.fullmatch(backend):
                raise InvalidError("backends", backend, "write HOST:PORT, or [IPV6]:PORT")
    for key in config.keys:
        if not _SHA256.fullmatch(key.sha256):
            raise InvalidError(f"keys.{key.name}.sha256", key.sha256, "use 64 hex digits")


def _require_sane_numbers(config: Config) -> None:
    limits = [key.limit for key in config.keys if key.limit is not None]
    for field, number, least in (
        ("generation", config.generation, 0),
        ("timeout_s", config.timeout_s, 0.001),
        ("max_body_bytes", config.max_body_bytes, 1),
        *(("limit.per_s", limit.per_s, 1e-6) for limit in limits),
        *(("limit.burst", limit.burst, 1) for limit in limits),
    ):
        if not least <= number < math.inf:
            raise InvalidError(field, number, f"use at least {least}")
