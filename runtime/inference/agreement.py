"""Whether two versions of a model mean the same by their answers.

what both give                           compared by
──────────────────────────────────────   ─────────────────────────────────────────────────────
labels: integers, truths or texts        those alone, exactly: the scores beside them may differ
scores: every row sums up to one         which is the highest of each row
anything else                            every value, within the tolerances of a bundle's check
"""

import numpy as np

from runtime.bundle.index import Check
from runtime.errors import ModelError
from runtime.inference import check
from runtime.inference.tensors import Array, Arrays

LABELS = "iubOUS"
"""Kinds of arrays that hold labels."""
SUM_TOLERANCE = 1e-3


def difference(rules: Check, own: Arrays, other: Arrays) -> str:
    """Say where two answers differ, in one line; empty: they agree."""
    labels = [name for name, array in own.items() if array.dtype.kind in LABELS]
    for name in labels or own:
        if name not in other:
            return f"output {name}: only one version gives it"
        found = _difference(rules, name, own[name], other[name])
        if found:
            return found
    return ""


def _difference(rules: Check, name: str, own: Array, other: Array) -> str:
    if own.shape != other.shape:
        return f"output {name} has shape {list(own.shape)}, the candidate's {list(other.shape)}"
    if _are_scores(own) and _are_scores(other):
        return _higher(name, own, other)
    try:
        check.compare(rules, {name: own}, {name: other})
    except ModelError as error:
        return str(error)
    return ""


def _are_scores(array: Array) -> bool:
    rows_of_several = array.ndim == 1 + 1 and array.shape[1] > 1
    if array.dtype.kind != "f" or not rows_of_several:
        return False
    sums_to_one = bool(np.all(np.abs(array.sum(axis=1) - 1) <= SUM_TOLERANCE))
    return sums_to_one and bool((array >= 0).all())


def _higher(name: str, own: Array, other: Array) -> str:
    ours, theirs = own.argmax(axis=1), other.argmax(axis=1)
    rows = np.flatnonzero(ours != theirs)
    if not rows.size:
        return ""
    row = int(rows[0])
    return (
        f"output {name} is highest elsewhere in {rows.size} of {len(ours)} rows: in row {row} at"
        f" {theirs[row]}, the version that answers has {ours[row]}"
    )
