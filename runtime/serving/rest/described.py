"""What is known of a model beside its signature: its columns' names, and inputs that it takes."""

import weakref
from pathlib import Path
from typing import NamedTuple, Protocol

from runtime.bundle.index import Index
from runtime.errors import InvalidError, PackhorseError
from runtime.inference import check, tensors
from runtime.inference.tensors import Arrays
from runtime.serving import tables
from runtime.serving.dataplane import DataPlane
from runtime.serving.rest.routes import Place
from runtime.serving.served import Served
from runtime.serving.tables import Layout


class Shelf(Protocol):
    """Where the models' bundles lie."""

    def opened(self, name: str, version: str) -> tuple[Path, Index] | None:
        """Return the directory and index of a bundle that was loaded."""
        ...


class Description(NamedTuple):
    """One model's."""

    layout: Layout
    example: Arrays | None
    """Inputs of its check."""


class Descriptions:
    """All that were asked for; each lives as long as its model is served."""

    def __init__(self, plane: DataPlane, shelf: Shelf | None) -> None:
        self._plane, self._shelf = plane, shelf
        self._known: weakref.WeakKeyDictionary[Served, Description] = weakref.WeakKeyDictionary()

    def of(self, served: Served) -> Description:
        """Return a model's description."""
        known = self._known.get(served)
        if known is None:
            known = self._known[served] = self._read(served)
        return known

    def only(self, place: Place) -> Served:
        """Return the model that a path names, or the only one; raise InvalidError for several."""
        if place.name is not None:
            return self._plane.find(place.name, place.version)
        names = sorted({served.name for served in self._plane.served})
        if len(names) != 1:
            fix = f"name one: /v2/models/…/{place.kind}" if names else "none is served yet"
            raise InvalidError("model", ", ".join(names), fix)
        return self._plane.find(names[0])

    def _read(self, served: Served) -> Description:
        found = None if self._shelf is None else self._shelf.opened(served.name, served.version)
        if found is None:
            return Description(tables.layout(served.signature), None)
        directory, index = found
        layout = tables.layout(served.signature, index.metadata)
        if index.check is None:
            return Description(layout, None)
        try:
            arrays = check.read_arrays(directory / index.check.inputs)
            return Description(layout, tensors.conform(served.signature, arrays))
        except (PackhorseError, OSError):
            return Description(layout, None)  # its files have been taken away
