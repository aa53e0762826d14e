"""Signatures and requests for models that need not be there."""

from types import SimpleNamespace
from typing import Any

from runtime.bundle.index import Signature, TensorSpec
from runtime.inference.tensors import DTYPES

SPECS = {
    name: TensorSpec(name=name, datatype=name, shape=(-1, 2)) for name in DTYPES
}  # fmt: skip
"""One input for each datatype, called like it."""


def of(*specs: TensorSpec) -> Any:
    """Return what the codec needs of a served model that takes these."""
    signature = Signature(inputs=specs, outputs=())
    by_name = {spec.name: spec for spec in specs}
    return SimpleNamespace(name="m", version="1", signature=signature, specs=by_name)
