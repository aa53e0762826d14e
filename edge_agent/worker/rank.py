"""What a worker's rank leaves it: a candidate has its budget, a shadow what others do not need."""

import os
import resource

from runtime.candidates import Candidate, Mode

MIB = 1 << 20
SHADOW_NICE = 10


def take(candidate: Candidate | None, memory_mb: int | None) -> None:
    """Bound this process: a module's own worker by its bundle, a candidate by its budget too."""
    if candidate is not None:
        limits = [each for each in (memory_mb, candidate.memory_mb) if each is not None]
        memory_mb = min(limits, default=None)
        if candidate.mode is Mode.SHADOW:
            os.nice(SHADOW_NICE)
    if memory_mb is not None:
        # Should the agent not be quick enough to see it grow.
        most = (2 * memory_mb + 512) * MIB
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
