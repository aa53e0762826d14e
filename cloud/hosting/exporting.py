"""A service as files for people with their own way into a cluster: from what the registry knows.

    a service, or what is asked of one ──► images ──► Wish ──► files      no cluster is asked

An image that a cluster can pull has to be named in them. With an image registry it is built and
pushed, which takes time: until then the answer is what is being waited for. Without one, whoever
asks names it: made by `packhorse services build NAME:VERSION --push REPOSITORY`, it is also the
gateway's, since each image has the whole runtime.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import msgspec

from cloud import tables
from cloud.errors import ConflictError
from cloud.hosting import opening, wishes
from cloud.hosting.builds import Build, Builds
from cloud.hosting.errors import BuildError
from cloud.hosting.kubernetes import export
from cloud.hosting.kubernetes.export import Flavour
from cloud.hosting.targets import Place, RevisionWish, Wish
from cloud.hosting.wishes import Snapshot
from cloud.images.maker import Wanted
from cloud.registry.serving import keys
from cloud.registry.serving.specs import KUBERNETES, ServiceSpec
from cloud.services import Services
from cloud.trust.keys import hashed, make_secret
from runtime.errors import InvalidError
from runtime.gateway.config import Config, Key, Revision

ANYWHERE = Place(KUBERNETES)
UNUSED = "none"
"""Stands for the gateway's image where KServe has a way in of its own."""
NO_REGISTRY = (
    "this registry pushes no images: name one that the cluster can pull, made by "
    "`packhorse services build {model}:{version} --push REPOSITORY`"
)


@dataclass(frozen=True)
class Asked:
    """How a service shall be written down."""

    flavour: Flavour = "manifests"
    image: str | None = None
    """Of the one revision; None: built and pushed by the registry."""
    gateway_image: str | None = None
    """None: `image`, or the registry's own."""
    secrets: bool = False
    """With what is confidential, in plain."""


@dataclass(frozen=True)
class Exported:
    """The files, or what they wait for."""

    waiting: str = ""
    """What is being built; "": nothing, and the files are here."""
    files: Mapping[str, bytes] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()
    """Confidential files that were not asked for; whoever applies the rest must bring them."""
    key: str | None = None
    """A first key, shown this once: only its hash is in the files."""


def of_service(services: Services, found: Snapshot, asked: Asked) -> Exported:
    """Return the files of a service as it is.

    Raises InvalidError if images must be named, BuildError if they cannot be made, RefusedError for
    what Kubernetes or KServe would not take.
    """
    if not found.revisions:
        raise ConflictError(
            f"{found.row.name}: nothing of it shall run: there is nothing to export"
        )
    if asked.image is not None and len(found.revisions) > 1:
        shown = ", ".join(f"r{each.number}" for each in found.revisions)
        fix = f"{found.row.name} has {shown}: give one all the traffic first"
        raise InvalidError("image", asked.image, fix)
    place = found.place if found.place.kind == KUBERNETES else ANYWHERE
    images = _Images(services, place, asked)
    for each in found.revisions:
        # detached from its session: what is set here is seen here alone
        each.image = images.of(each, each.image)
    gateway = images.gateway(found.revisions[0])
    if images.waiting:
        return Exported(waiting=", ".join(images.waiting))
    wish = wishes.wish(found, gateway, services.sealer)
    kept = tuple(each for each in wish.gateway.keys if each.name != keys.OWN)
    wish = replace(wish, gateway=msgspec.structs.replace(wish.gateway, keys=kept))
    return _exported(services, wish, place, asked)


def of_spec(
    services: Services, spec: ServiceSpec, version: tables.Version, asked: Asked
) -> Exported:
    """Return the files of a service that this registry does not have; raises as `of_service`.

    A service that wants keys gets a first one.
    """
    images = _Images(services, spec.place, asked)
    row = tables.ServiceRevision(
        service=spec.name,
        number=1,
        model=version.model,
        version=version.number,
        bundle=version.bundle,
        resources=msgspec.to_builtins(spec.revision.resources),
        base_image=spec.revision.base_image,
        created_at=0.0,
        created_by="",
    )
    image, gateway = images.of(row, None), images.gateway(row)
    if images.waiting:
        return Exported(waiting=", ".join(images.waiting))
    keyed = not spec.gateway.anonymous and asked.flavour == "manifests"
    key = make_secret(keys.PREFIX) if keyed else None
    wish = _wish(spec, row, image, gateway, key)
    return replace(_exported(services, wish, spec.place, asked), key=key)


def _wish(
    spec: ServiceSpec, row: tables.ServiceRevision, image: str, gateway: str, key: str | None
) -> Wish:
    made, chosen = spec.revision, spec.gateway
    revision = RevisionWish(
        number=row.number,
        image=image,
        model=row.model,
        version=row.version,
        bundle=row.bundle,
        resources=made.resources,
        scale=made.scale,
        env=dict(made.env),
        secrets=dict(made.secrets),
        node_selector=dict(made.node_selector),
    )
    config = Config(
        service=spec.name,
        generation=1,
        revisions=(Revision(revision.name, 100),),
        keys=() if key is None else (Key(keys.FIRST, hashed(key)),),
        anonymous=chosen.anonymous,
        capture=chosen.capture,
        timeout_s=chosen.timeout_s,
        max_body_bytes=chosen.max_body_bytes,
    )
    return Wish(
        service=spec.name,
        generation=1,
        revisions=(revision,),
        gateway_image=gateway,
        gateway=config,
        gateway_replicas=chosen.replicas,
        route=spec.route,
    )


def _exported(services: Services, wish: Wish, place: Place, asked: Asked) -> Exported:
    files = export.build(wish, place, asked.flavour, opening.pulls(services.settings))
    hidden = () if asked.secrets else export.confidential(wish, files)
    kept = {name: data for name, data in files.items() if name not in hidden}
    return Exported(files=kept, left_out=hidden)


class _Images:
    """The images that an export names, and which of them are waited for."""

    def __init__(self, services: Services, place: Place, asked: Asked) -> None:
        self._services, self._place, self._asked = services, place, asked
        self.waiting: list[str] = []

    def of(self, row: tables.ServiceRevision, known: str | None) -> str:
        """Return the image of a revision; "": it is waited for."""
        if self._asked.image is not None:
            return self._asked.image
        if known is not None and "@sha256:" in known:  # it was pushed
            return known
        self._require_registry(row)
        wanted = Wanted(
            place=self._place,
            model=row.model,
            version=row.version,
            bundle=row.bundle,
            base_image=row.base_image,
            gpus=bool(row.resources.get("gpus")),
        )
        return self._built(f"{row.model}:{row.version}", lambda builds: builds.bundle(wanted))

    def gateway(self, row: tables.ServiceRevision) -> str:
        """Return the gateway's image; "": it is waited for."""
        given = self._asked.gateway_image or self._asked.image
        if given is not None or self._asked.flavour == "kserve":
            return given or UNUSED
        self._require_registry(row)
        return self._built("the gateway", lambda builds: builds.gateway(self._place))

    def _built(self, what: str, ask: Callable[[Builds], Build]) -> str:
        build = ask(self._services.builds())
        if build.broken:
            raise BuildError(f"image of {what}: {build.broken}")
        if build.image is None:
            self.waiting.append(f"the image of {what}: {build.doing or 'being made'}")
            return ""
        return build.image.reference

    def _require_registry(self, row: tables.ServiceRevision) -> None:
        if self._services.settings.image_registry is None:
            fix = NO_REGISTRY.format(model=row.model, version=row.version)
            raise InvalidError("image", None, fix)
