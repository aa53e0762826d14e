"""Which packages an image needs, resolved and fetched by pip on this side: a build has no network.

    requirements ─ pip install --dry-run --report ─► Package, Package, …  pinned, with hashes
                 ─ pip install --no-deps --target ─► a directory of just these

pip evaluates markers ("python_version < '3.11'") with the Python that it runs on, which may not be
the image's. So what was resolved is checked against its own metadata with the image's facts, and
what lacks is asked for by name, until nothing does.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cloud.hosting.errors import BuildError, UnreachableError
from cloud.images import platforms
from cloud.images.platforms import Platform

_TIMEOUT_S = 3600.0
_ROUNDS = 8
_NO_NETWORK = re.compile(
    r"Failed to establish a new connection|name resolution|Network is unreachable|"
    r"Connection (?:refused|reset)|timed out|Max retries"
)
_LACKS = re.compile(r"(?:No matching distribution found for|satisfies the requirement) ([^(\n]+)")
_NOISE = re.compile(r"^(?:ERROR|WARNING|INFO): |^\[notice\].*", re.MULTILINE)


@dataclass(frozen=True)
class Package:
    """One package, pinned."""

    name: str
    version: str
    sha256: str = ""
    """Of its wheel; "": the index did not say."""
    requires: tuple[str, ...] = field(default=(), compare=False)
    """Its own requirements, with their markers."""
    extras: tuple[str, ...] = field(default=(), compare=False)
    license: str = field(default="", compare=False)

    @property
    def pin(self) -> str:
        """Return it as a requirement."""
        return f"{self.name}=={self.version}"


def resolve(
    requirements: Sequence[str],
    platform: Platform,
    *,
    constraints: Iterable[str] = (),
    wheels: Path | None = None,
) -> tuple[Package, ...]:
    """Return every package that these requirements need there, sorted by name.

    `constraints` are pins to keep to, `wheels` is a directory of further wheels.
    Raises BuildError naming what has no wheel there, UnreachableError without the package index.
    """
    held = tuple(constraints)
    wanted = platforms.applying(requirements, platform)
    if not wanted:
        return ()
    for _ in range(_ROUNDS):
        found = _resolve(wanted, platform, held, wheels)
        if not (missing := lacking(found, platform)):
            return found
        wanted = tuple(sorted({*wanted, *missing}))
    raise BuildError(f"requirements {', '.join(wanted)}: they need one another without end")


def lacking(packages: Sequence[Package], platform: Platform) -> tuple[str, ...]:
    """Return what these packages require there and is not among them."""
    there = {canonicalize_name(each.name): each.version for each in packages}
    missing = set()
    for package in packages:
        for extra in ("", *package.extras):
            for text in platforms.applying(package.requires, platform, extra):
                requirement = Requirement(text)
                version = there.get(canonicalize_name(requirement.name))
                if version is None or not requirement.specifier.contains(version, prereleases=True):
                    missing.add(text)
    return tuple(sorted(missing))


def install(
    packages: Sequence[Package], platform: Platform, target: Path, wheels: Path | None = None
) -> None:
    """Unpack just these packages into a new directory."""
    pins = "".join(f"{line}\n" for line in _pinned(packages))
    with tempfile.TemporaryDirectory(prefix="packhorse-pip-") as scratch:
        listed = Path(scratch) / "requirements.txt"
        listed.write_text(pins)
        _pip(
            [
                "install",
                *platforms.pip_options(platform),
                *("--no-deps", "--no-compile", "--ignore-installed"),
                *("--target", str(target), "--requirement", str(listed)),
                *_links(wheels),
            ],
            platform,
        )


def _pinned(packages: Sequence[Package]) -> Iterator[str]:
    # pip wants a hash of all or of none.
    hashed = all(each.sha256 for each in packages)
    for each in packages:
        yield f"{each.pin} --hash=sha256:{each.sha256}" if hashed else each.pin


def _resolve(
    wanted: Sequence[str], platform: Platform, constraints: Sequence[str], wheels: Path | None
) -> tuple[Package, ...]:
    with tempfile.TemporaryDirectory(prefix="packhorse-pip-") as scratch:
        report, held = Path(scratch) / "report.json", Path(scratch) / "constraints.txt"
        held.write_text("".join(f"{line}\n" for line in constraints))
        _pip(
            [
                "install",
                *platforms.pip_options(platform),
                *("--dry-run", "--ignore-installed", "--report", str(report)),
                *("--target", str(Path(scratch) / "site"), "--constraint", str(held)),
                *_links(wheels),
                *wanted,
            ],
            platform,
        )
        told = json.loads(report.read_text())
    found = (_package(each) for each in told["install"])
    return tuple(sorted(found, key=lambda each: each.name))


def _package(told: Mapping[str, Any]) -> Package:
    metadata = told["metadata"]
    hashes = (told["download_info"].get("archive_info") or {}).get("hashes") or {}
    return Package(
        name=canonicalize_name(metadata["name"]),
        version=metadata["version"],
        sha256=hashes.get("sha256", ""),
        requires=tuple(metadata.get("requires_dist") or ()),
        extras=tuple(told.get("requested_extras") or ()),
        license=str(metadata.get("license_expression") or ""),
    )


def _links(wheels: Path | None) -> tuple[str, ...]:
    return () if wheels is None else ("--find-links", str(wheels))


def _pip(arguments: Sequence[str], platform: Platform) -> None:
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "NO_COLOR": "1"}
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "--quiet", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
            env={**os.environ, **quiet},
        )
    except subprocess.TimeoutExpired as error:
        raise UnreachableError(f"packages: pip took more than {_TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        raise _failure(done.stderr, platform)


def _failure(said: str, platform: Platform) -> BuildError | UnreachableError:
    """Return what pip's words mean."""
    if "No module named pip" in said:
        return BuildError(f"packages: {sys.executable} has no pip: run it with -m ensurepip")
    if _NO_NETWORK.search(said):
        return UnreachableError(
            "packages: the package index does not answer: see pip's settings (PIP_INDEX_URL)"
        )
    lacks = sorted({match.strip() for match in _LACKS.findall(said)})
    if lacks:
        return BuildError(
            f"requirements: there is no wheel of {', '.join(lacks)} for {platform.name}: choose"
            " another version or base image, or put a wheel into the bundle's wheels/"
        )
    short = " ".join(_NOISE.sub("", said).split())
    return BuildError(f"requirements: pip says: {short[-600:]}")
