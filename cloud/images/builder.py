"""Makes images: of bundles, and the gateway's. Nothing in a build needs a network, or runs.

    base ─► floor (dependencies, runtime) = the gateway's image ─► bundle's image ─► image registry

What goes into an image is digested first, and the digest is a label of it and in its name: if an
image has both, it is that image, so nothing is built twice.
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cloud.hosting.errors import BuildError, RefusedError, UnreachableError
from cloud.images import contexts, floor, foundation, planning, recipe
from cloud.images.content import Content
from cloud.images.floor import Wanted
from cloud.images.image import DEFAULT_BASE, Image
from cloud.images.planning import Plan
from cloud.images.recipe import Recipe
from runtime import files
from runtime.bundle import policy
from runtime.containers.engine import Engine
from runtime.containers.errors import EngineRefusedError, EngineUnreachableError, PushError
from runtime.containers.images import Progress
from runtime.containers.specs import Credentials

LOCAL = "packhorse"
"""The repository of images that no image registry has."""


@dataclass(frozen=True)
class Publishing:
    """The image registry that images are pushed to, so that other machines can pull them."""

    repository: str
    """HOST[:PORT]/PATH; an image is REPOSITORY/MODEL."""
    credentials: Credentials | None = None
    """None: those of `docker login`."""


def silent(_line: str) -> None:
    """Tell nobody how far a build is."""


class Builder:
    """Builds with one engine. Methods may be called from several threads and processes."""

    def __init__(self, engine: Engine, work: Path, *, publishing: Publishing | None = None) -> None:
        """Keep packages and layers below `work`, to be used again."""
        self._engine, self._publishing = engine, publishing
        self._work = files.make_directory(work)
        self._store = floor.Store(work, engine)

    def build(
        self,
        content: Content,
        *,
        base_image: str = DEFAULT_BASE,
        gpu: bool = False,
        progress: Progress = silent,
    ) -> Image:
        """Return an image that serves a bundle: one that is there, or a new one.

        With `gpu`, CUDA's libraries come as packages and the base needs none. Raises BuildError
        saying what to change, UnreachableError if the engine or an index does not answer,
        RefusedError if the image registry does not take it.
        """
        with _explained():
            below = self._below(base_image, progress, gpu=gpu)
            key = planning.bundle_key(below, content)
            name = planning.bundle_name(content, key)

            def make(tag: str) -> None:
                under = self._obtained(
                    planning.floor_name(below), below.key, self._floor(below, progress)
                )
                labels = planning.bundle_labels(content, below.base, key)
                with self._scratch() as scratch:
                    plan = planning.bundle_plan(self._store, below, content, scratch, progress)
                    self._run(
                        under,
                        plan,
                        labels,
                        recipe.serve(policy.needs(content.index)),
                        tag,
                        progress,
                        gpu=gpu,
                    )

            reused = self._made(f"{LOCAL}/{name}", key)
            tag = self._obtained(name, key, make)
            return self._finished(tag, name, str(content.digest), progress, reused=reused)

    def gateway(self, *, base_image: str = DEFAULT_BASE, progress: Progress = silent) -> Image:
        """Return the image of gateways, as `build` does."""
        with _explained():
            below = self._below(base_image, progress, gpu=False)
            name = planning.floor_name(below)
            reused = self._made(f"{LOCAL}/{name}", below.key)
            tag = self._obtained(name, below.key, self._floor(below, progress))
            return self._finished(tag, name, None, progress, reused=reused)

    def context(
        self,
        directory: Path,
        content: Content,
        *,
        base_image: str = DEFAULT_BASE,
        gpu: bool = False,
        progress: Progress = silent,
    ) -> None:
        """Write all that a build of a bundle's image needs to a new directory; build nothing.

        `docker build DIRECTORY` anywhere gives the same layers. The engine is only asked what the
        base image holds, and compiles for it.
        """
        if directory.exists():
            raise BuildError(f"{directory} is there already: name a new directory")
        with _explained(), self._scratch() as scratch:
            below = self._below(base_image, progress, gpu=gpu)
            lower = planning.floor_plan(self._store, below, scratch, progress)
            plan = planning.bundle_plan(self._store, below, content, scratch, progress)
            named = contexts.named([*lower.layers, *plan.layers])
            key = planning.bundle_key(below, content)
            labels = planning.bundle_labels(content, below.base, key)
            made = Recipe(
                below.base.pullable,
                tuple(named),
                labels,
                recipe.serve(policy.needs(content.index)),
                gpu,
            )
            contexts.write(directory, made, named, plan.document)

    def sbom(self, content: Content, *, base_image: str = DEFAULT_BASE, gpu: bool = False) -> bytes:
        """Return the bill of materials that a bundle's image has in it."""
        with _explained(), self._scratch() as scratch:
            below = self._below(base_image, silent, gpu=gpu)
            return planning.bundle_plan(self._store, below, content, scratch, silent).document

    def _below(self, base_image: str, progress: Progress, *, gpu: bool) -> Wanted:
        credentials = self._publishing.credentials if self._publishing else None
        base = foundation.obtain(self._engine, base_image, credentials, progress)
        return floor.wanted(base, gpu=gpu)

    def _floor(self, below: Wanted, progress: Progress) -> Callable[[str], None]:
        """Return what makes a floor's image."""

        def make(tag: str) -> None:
            with self._scratch() as scratch:
                plan = planning.floor_plan(self._store, below, scratch, progress)
                labels = planning.floor_labels(below)
                under = below.base.pullable
                self._run(under, plan, labels, recipe.GATEWAY, tag, progress, gpu=below.gpu)

        return make

    def _run(  # noqa: PLR0917 - what a Dockerfile says, in its order
        self,
        under: str,
        plan: Plan,
        labels: dict[str, str],
        command: tuple[str, ...],
        tag: str,
        progress: Progress,
        *,
        gpu: bool,
    ) -> None:
        named = contexts.named(plan.layers)
        made = Recipe(under, tuple(named), labels, command, gpu)
        progress(f"building {tag}")
        self._engine.images.build(contexts.stream(made, named), tag, progress)

    def _made(self, tag: str, key: str) -> bool:
        """Say whether the image that is made of this is there.

        The label alone does not tell: whatever somebody builds on one of our images inherits it.
        """
        found = self._engine.images.find(tag)
        return found is not None and found.labels.get(planning.INPUT) == key

    def _obtained(self, name: str, key: str, make: Callable[[str], None]) -> str:
        """Return the local reference of an image; `make` it if it is not there."""
        tag = f"{LOCAL}/{name}"
        with self._store.alone(key):
            if not self._made(tag, key):
                make(tag)
        return tag

    def _finished(
        self, tag: str, name: str, bundle: str | None, progress: Progress, *, reused: bool
    ) -> Image:
        """Push an image if that is configured; return what there is now."""
        reference, digest = tag, ""
        if self._publishing is not None:
            published = f"{self._publishing.repository.rstrip('/')}/{name}"
            self._engine.images.tag(tag, published)
            progress(f"pushing {published}")
            digest = self._engine.images.push(published, self._publishing.credentials, progress)
            reference = f"{published.rpartition(':')[0]}@{digest}"
        found = self._engine.images.find(tag)
        if found is None:
            raise BuildError(f"{tag} was removed while it was used: try again")
        return Image(reference, digest or found.id, bundle, found.size_bytes, reused)

    @contextlib.contextmanager
    def _scratch(self) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix=".build-", dir=self._work) as scratch:
            yield Path(scratch)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Turn what an engine says into what targets say."""
    try:
        yield
    except EngineUnreachableError as error:
        raise UnreachableError(str(error)) from error
    except PushError as error:
        raise RefusedError(
            f"{error}: see the image registry's settings, or `docker login`"
        ) from error
    except EngineRefusedError as error:
        raise BuildError(str(error)) from error
