"""What lies between two versions, and what the way from one to the other costs."""

from cloud.schema import Answer


class TensorDiff(Answer):
    """What became of one tensor."""

    file: str
    """Path of the new file that it lies in; of a removed one, of the old file."""
    name: str
    old_name: str | None
    """What it was called; None: it was added."""
    type: str
    shape: list[int]
    old_shape: list[int] | None
    state: str
    """"same", "changed", "resized", "added" or "removed"."""
    share: float
    """Of the elements that both have, those that differ: 0 to 1."""
    largest: float
    """The largest difference of two finite elements."""
    rms: float
    """The root of the mean square of all such differences."""


class FileDiff(Answer):
    """What became of one file of a bundle."""

    path: str
    """In the new bundle; of a removed one, in the old."""
    old_path: str | None
    """Which old file it was compared with; None: it was added."""
    state: str
    """"same", "changed", "renamed", "added" or "removed"; a file that was renamed and changed is
    "changed"."""
    size_bytes: int | None
    old_size_bytes: int | None


class SignatureDiff(Answer):
    """An input or output that is not what it was."""

    side: str
    """"input" or "output"."""
    name: str
    old: str | None
    """Such as "FP32[-1,64]"; None: it was added."""
    new: str | None
    """None: it was removed."""


class UpdateCost(Answer):
    """What an update costs one class of devices, with every encoding made that serves it."""

    variant: str
    """Which of the new bundle's variants they run; "default" where there are none."""
    holds: str | None
    """The bundle that they have; None: nothing."""
    encodings: str
    """"all", or "zstd": whole files only, as for devices without the memory for others."""
    bytes: int
    """Index, encoded files and part tables, as they travel."""
    blobs: int
    """How many come."""
    deltas: int
    """How many of these come as a delta."""
    estimated: bool
    """Whether any of it is an estimate; else everything was made, and counted."""


class Diff(Answer):
    """From one bundle to another."""

    old: str
    """NAME:VERSION, or the directory."""
    new: str
    old_bundle: str
    new_bundle: str
    files: list[FileDiff]
    signature: list[SignatureDiff]
    tensors: list[TensorDiff]
    """Of files that changed."""
    tensor_counts: dict[str, int]
    """How many there are of each state."""
    truncated: bool
    """Whether there are more tensors than `tensors` lists."""
    costs: list[UpdateCost]
