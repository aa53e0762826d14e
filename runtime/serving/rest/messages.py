"""The JSON of the Open Inference Protocol v2, as it comes and as it goes."""

from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from runtime.bundle.index import DataType


class TensorIn(msgspec.Struct, frozen=True):
    """One input of a request, with its values or, in the binary extension, how many bytes."""

    name: str
    shape: tuple[int, ...]
    datatype: str
    data: list[Any] | UnsetType = UNSET
    parameters: dict[str, Any] | None = None


class OutputRequest(msgspec.Struct, frozen=True):
    """One output that a client wants."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """What a client asks; parameters that are not known have no meaning here."""

    inputs: list[TensorIn]
    id: str | None = None
    outputs: list[OutputRequest] | None = None
    parameters: dict[str, Any] | None = None


class TensorOut(msgspec.Struct, frozen=True, omit_defaults=True):
    """One output of an answer."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    data: list[Any] | msgspec.Raw | UnsetType = UNSET
    """Flat, row by row."""
    parameters: dict[str, int] | UnsetType = UNSET
    """`binary_data_size`, for one whose values follow as bytes."""


class InferResponse(msgspec.Struct, frozen=True, omit_defaults=True):
    """The answer."""

    model_name: str
    model_version: str
    outputs: list[TensorOut]
    id: str | None = None
    """That of the request, if it had one."""
