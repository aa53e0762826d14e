"""What an image registry says that an image is made of. Pure.

an index      one manifest for each platform
a manifest    a configuration and layers, each by digest and size
"""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from runtime.imageregistry.errors import ImageAnswerError, PlatformError

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEXES = frozenset({OCI_INDEX, DOCKER_INDEX})
MANIFESTS = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
ACCEPTED = f"{OCI_INDEX}, {DOCKER_INDEX}, {OCI_MANIFEST}, {DOCKER_MANIFEST}"
MAX_BYTES = 1 << 20
"""Of an index, a manifest or a configuration."""
MAX_LAYERS = 256
MAX_LAYER_BYTES = 1 << 40
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAMES = {
    "x86_64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", "v8"),
    "arm64": ("arm64", "v8"),
    "armv7l": ("arm", "v7"),
    "armhf": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
}
_BELOW = {"v8": ("v8", ""), "v7": ("v7", "v6", "v5", ""), "v6": ("v6", "v5", ""), "": ("", "v8")}
"""Which variants run where, the best first."""

_Kind = TypeVar("_Kind")


class Platform(msgspec.Struct, frozen=True):
    """What an image runs on."""

    os: str = ""
    architecture: str = ""
    variant: str = ""

    def __str__(self) -> str:
        """Write it as people do."""
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Described(msgspec.Struct, frozen=True):
    """Something that an image registry has."""

    digest: str
    size: int
    media_type: str = msgspec.field(name="mediaType", default="")


class Entry(msgspec.Struct, frozen=True):
    """One manifest of an index."""

    digest: str
    size: int
    platform: Platform | None = None
    media_type: str = msgspec.field(name="mediaType", default="")


class Manifest(msgspec.Struct, frozen=True):
    """One image for one platform."""

    config: Described
    layers: tuple[Described, ...]


class _Index(msgspec.Struct, frozen=True):
    manifests: tuple[Entry, ...]


class _RootFs(msgspec.Struct, frozen=True):
    diff_ids: tuple[str, ...] = ()


class Config(msgspec.Struct, frozen=True):
    """As much of an image's configuration as we ask about."""

    rootfs: _RootFs = _RootFs()
    os: str = ""
    architecture: str = ""
    variant: str = ""

    @property
    def platform(self) -> Platform:
        """What the image runs on."""
        return Platform(self.os, self.architecture, self.variant)


def platform_of(os: str, machine: str) -> Platform:
    """Return the platform of an engine that says this of itself."""
    architecture, variant = _NAMES.get(machine, (machine, ""))
    return Platform(os or "linux", architecture, variant)


def read(data: bytes, media_type: str) -> Manifest | tuple[Entry, ...]:
    """Return what a document says: an image, or those of an index.

    Raises ImageAnswerError if it is neither.
    """
    if not media_type.endswith("json") or media_type == "application/json":
        media_type = str(_decoded(data, dict[str, Any]).get("mediaType") or "")
    if media_type in INDEXES:
        entries = _decoded(data, _Index).manifests
        _check(entries)
        return entries
    if media_type in MANIFESTS:
        found = _decoded(data, Manifest)
        if len(found.layers) > MAX_LAYERS:
            raise ImageAnswerError(f"{len(found.layers)} layers: an image has at most {MAX_LAYERS}")
        _check((found.config, *found.layers))
        return found
    raise ImageAnswerError(
        f"a manifest of type {media_type[:80] or 'unknown'}: push the image anew, with a tool that"
        " writes OCI images or Docker's of schema 2"
    )


def read_config(data: bytes) -> Config:
    """Return an image's configuration; raise ImageAnswerError if it is none."""
    return _decoded(data, Config)


def platforms(entries: Sequence[Entry]) -> tuple[Platform, ...]:
    """Return what there are images for; attestations and the like are for nothing."""
    known = (each.platform for each in entries)
    return tuple(each for each in known if each is not None and each.os != "unknown")


def choose(entries: Sequence[Entry], wanted: Platform) -> Entry:
    """Return the manifest for a platform; raise PlatformError naming those that there are."""
    for variant in _BELOW.get(wanted.variant, (wanted.variant, "")):
        fitting = Platform(wanted.os, wanted.architecture, variant)
        for each in entries:
            if each.platform == fitting:
                return each
    there = ", ".join(map(str, platforms(entries))) or "none"
    raise PlatformError(f"there is no image for {wanted}; there are some for {there}")


def _check(described: Sequence[Described | Entry]) -> None:
    for each in described:
        if not _DIGEST.fullmatch(each.digest) or not 0 <= each.size <= MAX_LAYER_BYTES:
            raise ImageAnswerError(f"digest {each.digest[:80]!r}, size {each.size}: not accepted")


def _decoded(data: bytes, kind: type[_Kind]) -> _Kind:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ImageAnswerError(f"what it says of the image cannot be read: {error}") from error
