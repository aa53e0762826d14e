"""`packhorse services deploy --export DIR`: manifests for clusters that no registry sees."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from cloud import shapes
from cloud.cli import output, pulling
from cloud.hosting.targets import Place, Resources, RevisionWish, Route, Scale, Wish
from cloud.trust import keys
from runtime.errors import InvalidError
from runtime.gateway.config import Capture, Config, Key, Revision

if TYPE_CHECKING:
    from cloud.client import Client

FLAVOURS = ("manifests", "kserve")
KEY_PREFIX, KEY_NAME = "phs_", "first"


@dataclass(frozen=True)
class Export:
    """What is to be written, and with which images."""

    directory: Path
    flavour: str = "manifests"
    image: str | None = None
    gateway_image: str | None = None
    push: str | None = None
    """Build what is not named with this machine's engine, and push it there."""


def check(asked: Export, target: str) -> None:
    """Raise InvalidError for what cannot be exported, before anything is built."""
    if target != "kubernetes":
        raise InvalidError("target", target, "only kubernetes has manifests to export")
    if asked.flavour not in FLAVOURS:
        raise InvalidError("flavour", asked.flavour, f"use {' or '.join(FLAVOURS)}")
    needed = {"image": asked.image}
    if asked.flavour == "manifests":
        needed["gateway-image"] = asked.gateway_image
    missing = [name for name, value in needed.items() if value is None]
    if missing and asked.push is None:
        fix = f"give --{missing[0]}, or --push REPOSITORY to build it here and push it"
        raise InvalidError(missing[0], None, fix)


def write(registry: "Client", wish: shapes.NewService, asked: Export) -> tuple[list[Path], str]:
    """Write the manifests of a service; return their paths, and its first key ("": it has none)."""
    from cloud.hosting.kubernetes import export

    found = registry.version(wish.model, str(wish.version or "latest"))
    image, gateway_image = _images(registry, found, wish, asked)
    key = "" if wish.gateway.anonymous else keys.make_secret(KEY_PREFIX)
    made = _wish(wish, found, image, gateway_image, key)
    target = wish.target
    place = Place(target.kind, target.host, target.context, target.namespace)
    flavour = cast("Literal['manifests', 'kserve']", asked.flavour)
    return list(export.export(made, place, asked.directory, flavour)), key


def _wish(
    wish: shapes.NewService, found: shapes.Version, image: str, gateway_image: str, key: str
) -> Wish:
    chosen = wish.gateway
    capture = None if chosen.capture is None else Capture(**chosen.capture.model_dump())
    config = Config(
        service=wish.name,
        generation=1,
        revisions=(Revision("r1", 100),),
        keys=(Key(KEY_NAME, keys.hashed(key)),) if key else (),
        anonymous=chosen.anonymous,
        capture=capture,
        timeout_s=chosen.timeout_s,
        max_body_bytes=chosen.max_body_bytes,
    )
    revision = RevisionWish(
        number=1,
        image=image,
        model=found.model,
        version=found.version,
        bundle=found.bundle,
        resources=Resources(**wish.resources.model_dump()),
        scale=Scale(**wish.scale.model_dump()),
        env=wish.env,
        secrets=wish.secrets,
        node_selector=wish.node_selector,
    )
    return Wish(
        service=wish.name,
        generation=1,
        revisions=(revision,),
        gateway_image=gateway_image,
        gateway=config,
        gateway_replicas=chosen.replicas,
        route=None if wish.route is None else Route(**wish.route.model_dump()),
    )


def _images(
    registry: "Client", found: shapes.Version, wish: shapes.NewService, asked: Export
) -> tuple[str, str]:
    """Return the references of both images; those that are not named are built and pushed."""
    image, gateway_image = asked.image, asked.gateway_image
    if asked.flavour == "kserve":
        gateway_image = gateway_image or "none"  # KServe brings its own
    if image is not None and gateway_image is not None:
        return image, gateway_image
    from cloud.images import content
    from cloud.images.image import DEFAULT_BASE

    base, progress = wish.base_image or DEFAULT_BASE, {"progress": output.say}
    with _builder(asked.push) as builder, tempfile.TemporaryDirectory() as scratch:
        if gateway_image is None:
            gateway_image = builder.gateway(base_image=base, **progress).reference
        if image is None:
            directory = Path(scratch) / "bundle"
            pulling.pull(registry, found.model, str(found.version), directory)
            encoded = registry.index(found.model, str(found.version))
            bundle = content.of_directory(directory, encoded, found.version)
            gpu = wish.resources.gpus > 0
            image = builder.build(bundle, base_image=base, gpu=gpu, **progress).reference
    return image, gateway_image


@contextlib.contextmanager
def _builder(push: str | None) -> Iterator[Any]:
    """Give what builds with this machine's engine and pushes."""
    import platformdirs

    from cloud.images.builder import Builder, Publishing
    from runtime.containers.engine import Engine
    from runtime.containers.specs import Address

    assert push is not None, "checked before"
    engine = Engine(Address(os.environ.get("DOCKER_HOST")))
    try:
        work = platformdirs.user_cache_path("packhorse") / "images"
        yield Builder(engine, work, publishing=Publishing(push))
    finally:
        engine.close()
