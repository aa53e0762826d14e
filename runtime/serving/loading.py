"""Loads a bundle for a server: graphs in this process, scripts each in one of their own."""

from collections.abc import Collection
from pathlib import Path

import msgspec

from runtime.bundle import policy
from runtime.bundle.index import Index
from runtime.inference import check
from runtime.inference.model import Model
from runtime.inference.session import Session
from runtime.serving import measuring
from runtime.serving.measuring import Measured
from runtime.serving.scripts.isolated import Isolated
from runtime.serving.served import Predictor

Loaded = tuple[Predictor, Measured]


def load(
    directory: Path,
    index: Index,
    allow: Collection[str] = policy.DEFAULT,
    *,
    graph: Session | None = None,
) -> Loaded:
    """Load a bundle, hold it against its own check, and run it until it is warm.

    `allow` is what bundles may bring, as runtime.bundle.policy names it. Raises InvalidError if it
    brings something else, ModelError if it does not load or does not pass. How fast the check wants
    it is a matter of devices. `graph` is the loaded graph of a bundle that is nothing else.
    """
    model = (
        _part(directory, index, allow)
        if graph is None
        else Model.load(directory, index, graph=graph)
    )
    try:
        check.require(model, directory, index)
        sample = measuring.sample(model.signature, directory, index)
        return model, measuring.measure(model, sample)
    except BaseException:
        model.close()
        raise


def _part(directory: Path, index: Index, allow: Collection[str]) -> Model | Isolated:
    if index.kind == "ensemble":
        return Model.load(directory, index, lambda place, own: _part(place, own, allow))
    if index.entry is None:
        return Model.load(directory, index)
    isolated = Isolated(directory, index, allow)
    if isolated.has_run:
        return isolated
    # A script with source() alone has nothing to say here; the graph answers, in this process.
    isolated.close()
    return Model.load(directory, msgspec.structs.replace(index, entry=None))
