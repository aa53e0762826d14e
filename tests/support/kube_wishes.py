"""Wishes for tests of the Kubernetes target."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from cloud.hosting.targets import RevisionWish, Wish
from runtime.gateway import config

BUNDLE = "5f" * 32
SERVICE = "churn"


def revision(number: int = 1, **more: Any) -> RevisionWish:
    """Return a revision."""
    plain = RevisionWish(number, f"images.example/churn:{number}", "churn-model", number, BUNDLE)
    return replace(plain, **more)


def wish(
    generation: int = 1,
    revisions: Iterable[RevisionWish] | None = None,
    weights: Mapping[str, int] | None = None,
    *,
    service: str = SERVICE,
    **more: Any,
) -> Wish:
    """Return a wish: by default for one revision, which has all the traffic."""
    wanted = tuple([revision()] if revisions is None else revisions)
    shares = {wanted[0].name: 100} if weights is None else weights
    entries = tuple(config.Revision(name, weight) for name, weight in shares.items())
    settings = config.Config(service, generation, entries)
    plain = Wish(service, generation, wanted, "images.example/gateway:1", settings)
    return replace(plain, **more)
