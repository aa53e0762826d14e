"""What an entry script may import here: the environment's packages, and the bundle's own wheels.

Nothing is ever downloaded. What `requirements` lists is looked for where the worker runs, and what
is missing is named before the script starts. Wheels below `wheels/` are unpacked once beside the
bundle's files and come first on this process's path; a bundle may hold wheels for several machines,
of which the best fitting one is taken.

    {bundle}/wheels/tiny-1.0-py3-none-any.whl
    {bundle}/.wheels/tiny-1.0-py3-none-any/         made here; goes with the bundle's directory
"""

import importlib
import importlib.metadata
import platform
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.tags import Tag, sys_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from runtime.bundle.index import Index
from runtime.errors import ModelError
from runtime.inference import wheels

WHEELS = "wheels"
UNPACKED = ".wheels"


def prepare(directory: Path, index: Index) -> None:
    """Make what the bundle brings importable, and raise ModelError unless all it needs is there."""
    chosen = choose([entry.path for entry in index.files])
    if chosen:
        _make_importable(directory, chosen)
    require(index.requirements)


def require(requirements: Iterable[str]) -> None:
    """Raise ModelError naming each requirement that this environment does not meet."""
    missing: dict[str, str] = {}
    for text in requirements:
        try:
            there = _unmet(Requirement(text))
        except ValueError as error:  # what packaging raises of lines, markers and versions
            reason = " ".join(str(error).split())
            raise ModelError(f"requirements: {text} cannot be looked for: {reason}") from error
        if there is not None:
            missing[text] = there
    if missing:
        listed = ", ".join(f"{text} ({found})" for text, found in missing.items())
        install = shlex.join([sys.executable, "-m", "pip", "install", *missing])
        raise ModelError(
            f"requirements: Python {platform.python_version()} here lacks {listed}:"
            f" run `{install}`, or put wheels into the bundle's {WHEELS}/"
        )


def _unmet(requirement: Requirement) -> str | None:
    """Return what is there instead of a requirement; None if it is met, or not for here."""
    if requirement.marker is not None and not requirement.marker.evaluate():
        return None
    try:
        found = importlib.metadata.version(requirement.name)
    except importlib.metadata.PackageNotFoundError:
        return "there is none"
    met = requirement.specifier.contains(found, prereleases=True)
    return None if met else f"there is {found}"


def choose(
    paths: Iterable[str], tags: Iterable[Tag] | None = None, where: str | None = None
) -> list[str]:
    """Return the best wheel of each package that a bundle has wheels of, by path.

    For this machine, or for the one that takes wheels of these `tags`, best first, and that errors
    call `where`. Raises ModelError if a name is no wheel's, or no wheel of a package fits.
    """
    order = {tag: place for place, tag in enumerate(sys_tags() if tags is None else tags)}
    best: dict[str, tuple[int, str]] = {}
    others: dict[str, str] = {}
    for path in paths:
        place = PurePosixPath(path)
        if str(place.parent) != WHEELS or place.suffix != ".whl":
            continue
        try:
            name, _, _, tags = parse_wheel_filename(place.name)
        except InvalidWheelFilename as error:
            raise ModelError(f"{path}: {error}: keep the name it was built with") from error
        ranks = [order[tag] for tag in tags if tag in order]
        if ranks:
            best[name] = min(best.get(name, (len(order), "")), (min(ranks), path))
        others.setdefault(name, path)
    unfit = [path for name, path in others.items() if name not in best]
    if unfit:
        here = where or f"Python {platform.python_version()} on {platform.machine()}"
        raise ModelError(f"{unfit[0]}: no wheel of it fits {here}: add one")
    return sorted(path for _, path in best.values())


def _make_importable(directory: Path, chosen: list[str]) -> None:
    places = []
    for path in chosen:
        target = directory / UNPACKED / PurePosixPath(path).stem
        wheels.unpack(directory / path, target)
        places += wheels.roots(target)
    for place in places:
        _require_unloaded(place)
    sys.path[:0] = [str(place) for place in places]
    importlib.invalidate_caches()


def _require_unloaded(place: Path) -> None:
    """Raise ModelError if a wheel brings what this process has loaded: it would not be used."""
    for brought in place.iterdir():
        name = brought.name.partition(".")[0]
        loaded = getattr(sys.modules.get(name), "__file__", None)
        if loaded is not None and not Path(loaded).is_relative_to(place):
            raise ModelError(
                f"{WHEELS}/: {name} is what the worker itself runs on: leave its wheel out,"
                " and list the version you need in requirements"
            )
