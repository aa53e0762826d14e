"""What a bundle says of putting requests together, and for which models that can be."""

import msgspec

from runtime.bundle.signature import Signature
from runtime.errors import InvalidError

MAX_BATCH_ROWS = 4096
MAX_BATCH_DELAY_MS = 10_000.0


class Batching(msgspec.Struct, frozen=True, omit_defaults=True):
    """How a server may put requests together; without it, it does not."""

    max_size: int
    """Rows of a batch at most, over all its requests."""
    max_delay_ms: float = 0.0
    """How long a request may wait for others; 0: only those that wait anyway go together."""


def require(batching: Batching | None, signature: Signature) -> None:
    """Raise InvalidError unless requests of this signature can be put together as it says."""
    if batching is None:
        return
    if not 1 < batching.max_size <= MAX_BATCH_ROWS:
        raise InvalidError("batching.max_size", batching.max_size, f"give 2 to {MAX_BATCH_ROWS}")
    if not 0 <= batching.max_delay_ms <= MAX_BATCH_DELAY_MS:
        fix = f"give 0 to {MAX_BATCH_DELAY_MS:g} milliseconds"
        raise InvalidError("batching.max_delay_ms", batching.max_delay_ms, fix)
    for spec in (*signature.inputs, *signature.outputs):
        if not spec.shape or spec.shape[0] != -1:
            fix = "each input and output needs a first dimension of any size (-1): leave it out"
            raise InvalidError("batching", f"{spec.name}{list(spec.shape)}", fix)
