"""What a model takes and gives."""

from typing import Literal

import msgspec

DataType = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64",
    "FP16", "FP32", "FP64", "BYTES",
]  # fmt: skip
"""Names of the Open Inference Protocol v2."""


class TensorSpec(msgspec.Struct, frozen=True):
    """One input or output of a model."""

    name: str
    datatype: DataType
    shape: tuple[int, ...]
    """-1 where any size fits (the batch dimension, usually first)."""


class Signature(msgspec.Struct, frozen=True):
    """What a model takes and gives, read from its graph or said by its author."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
