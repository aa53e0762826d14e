"""What of an image has to come, and what it takes on the disk. Pure."""

from collections.abc import Iterable, Sequence

import msgspec

from runtime.imageregistry.errors import ImageAnswerError
from runtime.imageregistry.manifests import Config, Described, Manifest

LIKELY_RATIO = 4
"""Layers unpack to at most so many times their size, most of them to half of that: where it fits
so, nobody need ask how large they really are."""
TRAILER_BYTES = 4
_GZIP_TURN = 1 << 32
_LARGE_BYTES = 1 << 30
_LEAST_GZIP_BYTES = 20


class Seen(msgspec.Struct, frozen=True):
    """One image as it is for this platform."""

    digest: str
    """Of the manifest."""
    media_type: str
    manifest: Manifest
    config: Config
    documents: dict[str, bytes]
    """Manifest and configuration, by digest."""
    asked_bytes: int
    """Of the index and the manifest, which the engine asks for once more."""


class Disks(msgspec.Struct, frozen=True):
    """What an image takes where layers arrive, and where the engine keeps images."""

    ours: int
    engines: int


def room(packed: int, given: int, unpacked: int, *, one_disk: bool) -> Disks:
    """Return what is needed of the disks: the engine copies what it is given, then unpacks it."""
    ours, engines = packed, given + unpacked
    return Disks(ours + engines, ours + engines) if one_disk else Disks(ours, engines)


def missing(
    manifest: Manifest, config: Config, stacks: Iterable[Sequence[str]]
) -> tuple[Described, ...]:
    """Return the layers above those that an image here has in common with this one.

    `stacks` are the unpacked layers of the images that are here, the lowest first: an engine has a
    layer only on top of the same ones.
    """
    unpacked = config.rootfs.diff_ids
    if len(unpacked) != len(manifest.layers):
        raise ImageAnswerError(
            f"{len(manifest.layers)} layers, and {len(unpacked)} in the configuration"
        )
    held = max((_common(unpacked, stack) for stack in stacks), default=0)
    return manifest.layers[held:]


def unpacked_bytes(layer: Described, trailer: bytes) -> int:
    """Return how large a layer is unpacked, likely.

    `trailer` are the last four bytes of one in gzip, which tell it modulo 4 GiB; b"" for others.
    A layer of several gzip members tells of the last one alone, which shows if that is too little.
    """
    told = int.from_bytes(trailer, "little")
    if told >= layer.size:
        return told
    if not trailer or layer.size < _LARGE_BYTES:
        return layer.size * LIKELY_RATIO
    return told + _GZIP_TURN * -(-(layer.size - told) // _GZIP_TURN)


def has_trailer(layer: Described) -> bool:
    """Say whether a layer's last bytes tell how large it is unpacked."""
    return layer.media_type.endswith("gzip") and layer.size >= _LEAST_GZIP_BYTES


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    count = 0
    for mine, theirs in zip(one, other, strict=False):
        if mine != theirs:
            break
        count += 1
    return count
