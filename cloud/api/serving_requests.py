"""What requests ask of services, as the registry's own types."""

from typing import Any, TypeVar

import msgspec
from pydantic import BaseModel

from cloud import shapes
from cloud.hosting.strategies import Strategy
from cloud.hosting.targets import Place, Resources, Route, Scale
from cloud.registry.serving.specs import GatewaySettings, RevisionSpec, ServiceSpec
from runtime.gateway.config import Limit

Plain = TypeVar("Plain")


_REVISION_KINDS: dict[str, Any] = {"resources": Resources, "scale": Scale}
_SERVICE_KINDS: dict[str, Any] = {"gateway": GatewaySettings, "route": Route}


def plain(body: BaseModel, kind: type[Plain]) -> Plain:
    """Return part of a request as our own type of the same fields."""
    return msgspec.convert(body.model_dump(), kind)


def place(target: shapes.Target) -> Place:
    """Return where a service shall run."""
    return plain(target, Place)


def strategy(asked: shapes.ServiceStrategy) -> Strategy:
    """Return how a revision shall take over."""
    return plain(asked, Strategy)


def spec(body: shapes.NewService) -> ServiceSpec:
    """Return what a request asks of a service."""
    return ServiceSpec(
        name=body.name,
        place=place(body.target),
        revision=RevisionSpec(
            model=body.model,
            version=body.version,
            resources=plain(body.resources, Resources),
            scale=plain(body.scale, Scale),
            env=body.env,
            secrets=body.secrets,
            node_selector=body.node_selector,
            base_image=body.base_image,
        ),
        strategy=strategy(body.strategy),
        gateway=plain(body.gateway, GatewaySettings),
        port=body.port,
        bind=body.bind,
        route=None if body.route is None else plain(body.route, Route),
    )


def changed(before: ServiceSpec, body: shapes.ServiceChanges) -> ServiceSpec:
    """Return what is asked of a service after a change; null takes away what may be missing."""
    given = body.model_dump(exclude_unset=True)
    revision = {
        name: msgspec.convert(value, _REVISION_KINDS[name]) if name in _REVISION_KINDS else value
        for name, value in given.items()
        if name in RevisionSpec.__dataclass_fields__ and _may_be(name, value)
    }
    if "model" in revision and "version" not in revision:
        revision["version"] = None
    service = {
        name: msgspec.convert(value, _SERVICE_KINDS[name])
        if name in _SERVICE_KINDS and value is not None
        else value
        for name, value in given.items()
        if name in {"gateway", "port", "bind", "route"} and _may_be(name, value)
    }
    kept = {
        name: getattr(before.revision, name) for name in RevisionSpec.__dataclass_fields__
    } | revision
    return ServiceSpec(
        name=before.name,
        place=before.place,
        revision=RevisionSpec(**kept),
        strategy=before.strategy,
        **{
            name: service.get(name, getattr(before, name))
            for name in ("gateway", "port", "bind", "route")
        },
    )


def _may_be(name: str, value: object) -> bool:
    """Say whether null means something for this field; elsewhere it is as if not given."""
    return value is not None or name in {"base_image", "port", "route"}


def limit(asked: shapes.KeyLimit | None) -> Limit | None:
    """Return how often a key shall be able to ask."""
    return None if asked is None else Limit(asked.per_s, asked.burst)
