"""What goes into which image: keys, labels, names, and the layers with their bill of materials."""

import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from cloud.hosting.errors import BuildError
from cloud.images import content as contents
from cloud.images import floor, layers, recipe, sbom, tree
from cloud.images.content import Content
from cloud.images.floor import Store, Wanted
from cloud.images.foundation import Base
from cloud.images.layers import Layer
from cloud.images.packages import Package
from runtime import files
from runtime.containers.images import Progress
from runtime.inference import environment

INPUT = "packhorse.input"
BUNDLE, MODEL, VERSION = "packhorse.bundle", "packhorse.model", "packhorse.version"
GATEWAY = "gateway"
_SHORT = 12


@dataclass(frozen=True)
class Plan:
    """Layers that an image adds to the one below it, and what is in the whole."""

    layers: list[Layer]
    document: bytes


def bundle_key(below: Wanted, content: Content) -> str:
    """Return the digest of all that goes into a bundle's image."""
    return floor.key_of("bundle", below.key, str(content.digest), content.version)


def bundle_name(content: Content, key: str) -> str:
    """Return the name of a bundle's image, without the repository."""
    return f"{content.index.name}:{content.version}-{key[:_SHORT]}"


def floor_name(below: Wanted) -> str:
    """Return the name of a floor, without the repository."""
    kind = f"{GATEWAY}-gpu" if below.gpu else GATEWAY
    return f"{kind}:{tree.version().replace('+', '-')}-{below.key[:_SHORT]}"


def bundle_labels(content: Content, base: Base, key: str) -> dict[str, str]:
    """Return the labels of a bundle's image."""
    return _labels(base, key) | {
        BUNDLE: str(content.digest),
        MODEL: content.index.name,
        VERSION: str(content.version),
        "org.opencontainers.image.title": content.index.name,
        "org.opencontainers.image.version": str(content.version),
        "org.opencontainers.image.description": content.index.description,
    }


def floor_labels(below: Wanted) -> dict[str, str]:
    """Return the labels of the gateway's image."""
    return _labels(below.base, below.key) | {
        "org.opencontainers.image.title": "packhorse-gateway",
        "org.opencontainers.image.version": tree.version(),
    }


def _labels(base: Base, key: str) -> dict[str, str]:
    return {
        INPUT: key,
        "org.opencontainers.image.base.name": base.reference,
        "org.opencontainers.image.base.digest": base.digest.rpartition("@")[2],
    }


def floor_plan(store: Store, below: Wanted, scratch: Path, progress: Progress) -> Plan:
    """Return what a floor adds to its base."""
    progress(f"resolving packages for {below.base.platform.name}")
    found = _floor_packages(store, below)
    progress(f"laying out {len(found)} packages")
    document = sbom.write(below.base, found, None, tree.version(), below.key)
    # A new volume takes over whose directory it is mounted on.
    places = [layers.Entry(path, owner=recipe.UID) for path in recipe.WRITABLE]
    entries = [layers.of_bytes(recipe.SBOM, document), *places]
    last = layers.write(scratch / "floor-sbom.tar", entries)
    packages = store.dependencies(found, below.base, recipe.DEPENDENCIES)
    return Plan([packages, store.runtime(below), last], document)


def bundle_plan(
    store: Store, below: Wanted, content: Content, scratch: Path, progress: Progress
) -> Plan:
    """Return what a bundle's image adds to its floor."""
    found = _floor_packages(store, below)
    wheels = _own_wheels(content, scratch / "wheels")
    extra = _extra(store, below, content, found, wheels)
    added = [each for each in extra if each.name not in wheels.versions]
    written: list[Layer] = []
    if added:
        progress(f"adding {', '.join(each.pin for each in added)}")
        written.append(store.dependencies(added, below.base, recipe.EXTRA))
    shadowed = {each.name for each in extra}
    everything = [*(each for each in found if each.name not in shadowed), *extra]
    key = bundle_key(below, content)
    document = sbom.write(below.base, everything, content, tree.version(), key)
    entry = layers.of_bytes(recipe.SBOM, document)
    progress(f"laying out {len(content.index.files)} files of {content.index.name}")
    written += contents.write(content, below.base.platform, entry, scratch)
    return Plan(written, document)


def _floor_packages(store: Store, below: Wanted) -> tuple[Package, ...]:
    try:
        return store.resolved(below.requirements, below.base, below.held)
    except BuildError:
        # What this Packhorse runs on itself may have no wheel for that platform.
        return store.resolved(below.requirements, below.base, ())


@dataclass(frozen=True)
class _Wheels:
    """Those that a bundle brings."""

    directory: Path
    versions: dict[str, str]
    """By name."""


def _own_wheels(content: Content, directory: Path) -> _Wheels:
    """Write a bundle's wheels to a directory, for pip to see."""
    files.make_directory(directory)
    found = {}
    for entry in content.index.files:
        path = PurePosixPath(entry.path)
        if str(path.parent) == environment.WHEELS and path.suffix == ".whl":
            name, version, _, _ = _parsed(path.name)
            found[str(name)] = str(version)
            with content.open(entry) as source, (directory / path.name).open("wb") as target:
                shutil.copyfileobj(source, target)
    return _Wheels(directory, found)


def _parsed(name: str) -> tuple[Any, ...]:
    try:
        return parse_wheel_filename(name)
    except InvalidWheelFilename as error:
        raise BuildError(f"{error}: keep the name that the wheel was built with") from error


def _extra(
    store: Store,
    below: Wanted,
    content: Content,
    found: tuple[Package, ...],
    wheels: _Wheels,
) -> list[Package]:
    """Return the packages that a bundle needs and its floor lacks, or has in another version."""
    if not content.requirements:
        return []
    # What the bundle brings itself is what the server will use: that very version.
    named = {str(canonicalize_name(Requirement(each).name)) for each in content.requirements}
    pinned = [f"{name}=={version}" for name, version in wheels.versions.items() if name in named]
    own, also = (wheels.directory, str(content.digest)) if wheels.versions else (None, "")
    asked = (*content.requirements, *pinned)
    try:
        pins = [each.pin for each in found]
        resolved = store.resolved(asked, below.base, pins, own, also=also)
    except BuildError:
        # It does not go with the floor's versions; perhaps with others that the floor allows.
        together = (*below.requirements, *asked)
        resolved = store.resolved(together, below.base, (), own, also=also)
    there = {(each.name, each.version) for each in found}
    return [each for each in resolved if (each.name, each.version) not in there]
