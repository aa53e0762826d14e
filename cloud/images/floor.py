"""What all images of one Packhorse on one base have in common: its dependencies, and `runtime`.

    {work}/packages/<key>.json   what was resolved, so that it is resolved once
    {work}/layers/<key>.tar      layers, so that they are made once and stay the same

It is an image of its own, the gateway's, and a bundle's image only adds to it.
"""

import contextlib
import fcntl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from cloud.images import compiling, layers, packages, platforms, recipe, tree
from cloud.images.foundation import Base
from cloud.images.layers import Entry, Layer
from cloud.images.packages import Package
from runtime import digests, files, messages
from runtime.containers.engine import Engine

LAYOUT = 1
"""Raised when images are laid out otherwise than before: nothing older is reused."""
_CPU, _GPU = "onnxruntime", "onnxruntime-gpu[cuda,cudnn]"


@dataclass(frozen=True)
class Wanted:
    """What a floor is made of; `key` names it."""

    base: Base
    requirements: tuple[str, ...]
    held: tuple[str, ...]
    runtime: str
    """Digest of the package."""
    gpu: bool

    @property
    def key(self) -> str:
        """Return the digest of all that goes in."""
        return key_of(
            "floor", LAYOUT, self.base.id, self.requirements, self.held, self.runtime, self.gpu
        )


def key_of(*parts: object) -> str:
    """Return one digest of plain values."""
    return str(digests.of_bytes(messages.canonical_json(parts)))


def wanted(base: Base, *, gpu: bool) -> Wanted:
    """Return the floor of this Packhorse on a base."""
    asked = platforms.applying(tree.requirements(), base.platform, "serve")
    held = tree.held()
    if gpu:
        asked = tuple(
            _GPU + each.removeprefix(_CPU) if each.startswith(_CPU) else each for each in asked
        )
    return Wanted(base, asked, held, layers.digest_of(tree.entries()), gpu)


class Store:
    """Where packages and layers are kept between builds. Several processes may use one."""

    def __init__(self, work: Path, engine: Engine) -> None:
        """Use (and make, if it is missing) this directory."""
        self._engine = engine
        self._packages = files.make_directory(work / "packages")
        self._layers = files.make_directory(work / "layers")

    def resolved(
        self,
        requirements: Sequence[str],
        base: Base,
        held: Sequence[str],
        wheels: Path | None = None,
        *,
        also: str = "",
    ) -> tuple[Package, ...]:
        """Return the packages that are needed; raises as packages.resolve does.

        `also` is what else the answer depends on, such as the digest of what is in `wheels`.
        """
        key = key_of(requirements, msgspec.to_builtins(base.platform), held, also)
        path = self._packages / f"{key}.json"
        with self.alone(key):
            if path.exists():
                return msgspec.json.decode(path.read_bytes(), type=tuple[Package, ...])
            found = packages.resolve(requirements, base.platform, constraints=held, wheels=wheels)
            files.write_atomic(path, messages.canonical_json(found))
            return found

    def dependencies(
        self, wanted: Sequence[Package], base: Base, prefix: str, wheels: Path | None = None
    ) -> Layer:
        """Return a layer with these packages, compiled, below `prefix`."""
        pins = sorted(f"{each.pin} {each.sha256}" for each in wanted)

        def entries(scratch: Path) -> list[Entry]:
            packages.install(wanted, base.platform, scratch / "site", wheels)
            return list(layers.below("", scratch / "site"))

        return self._compiled(key_of("site", pins, base.id, prefix), base, entries, prefix)

    def runtime(self, floor: Wanted) -> Layer:
        """Return a layer with the `runtime` package, compiled."""
        key = key_of("runtime", floor.runtime, floor.base.id, recipe.RUNTIME)
        return self._compiled(key, floor.base, lambda _: list(tree.entries()), recipe.RUNTIME)

    def _compiled(
        self, key: str, base: Base, entries: Callable[[Path], list[Entry]], prefix: str
    ) -> Layer:
        path = self._layers / f"{key}.tar"
        with self.alone(key):
            if path.exists():
                return layers.read(path)
            with tempfile.TemporaryDirectory(prefix=".making-", dir=self._layers) as scratch:
                made = entries(Path(scratch))
                return compiling.compiled(self._engine, base, made, prefix, path)

    @contextlib.contextmanager
    def alone(self, key: str) -> Iterator[None]:
        """Let one process make a thing while others wait for it."""
        with (self._layers / f".{key}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
