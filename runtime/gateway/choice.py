"""Who answers the next request: which revision by weight, which of its replicas by load. Pure.

The revisions take turns in a fixed cycle of WEIGHT_TOTAL, so over any WEIGHT_TOTAL requests in a
row each has exactly its weight, and over any shorter run it is less than two requests off: no
dice, nothing to wait for until a share is seen.
"""

from collections.abc import Sequence

from runtime.gateway.config import WEIGHT_TOTAL


def cycle(weights: Sequence[int]) -> tuple[int, ...]:
    """Return WEIGHT_TOTAL indexes into `weights`, each as often as its weight; () if all are 0.

    Each index's k-th turn lies between k/share and (k+1)/share (the earliest deadline first of
    those whose turn has begun), which keeps every beginning of the cycle within one turn of exact.
    """
    if not any(weights):
        return ()
    taken = [0] * len(weights)
    turns = []
    for slot in range(WEIGHT_TOTAL):
        begun = [
            index
            for index, weight in enumerate(weights)
            if weight and taken[index] * WEIGHT_TOTAL <= slot * weight
        ]
        chosen = min(begun, key=lambda index: (_deadline(taken[index], weights[index]), index))
        taken[chosen] += 1
        turns.append(chosen)
    return tuple(turns)


def _deadline(taken: int, weight: int) -> int:
    return -((taken + 1) * -WEIGHT_TOTAL // weight)


def least(loads: Sequence[tuple[int, int]], turn: int) -> int:
    """Return the index of the smallest (rank, requests in hand); ties go round by `turn`."""
    count = len(loads)
    return min(range(count), key=lambda index: (loads[index], (index - turn) % count))


def sampled(number: int, fraction: float) -> bool:
    """Say whether request `number` (from 0) is among the `fraction` taken, evenly spread."""
    return int((number + 1) * fraction) > int(number * fraction)
