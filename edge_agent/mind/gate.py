"""Whether a candidate has shown enough, or can no longer. Pure; the worker that counts asks it too.

state      when
────────   ──────────────────────────────────────────────────────────────────────────
measuring  answers are missing
passed     so many answers were compared, enough of them were alike, and quick enough
failed     it cannot pass any more: waiting for the rest would change nothing
"""

import enum

import msgspec

from runtime.candidates import Candidate, Counts, Gate

LEAST_MS = 1.0
"""A ratio of latencies counts only for a difference above this: below it is noise."""


class State(enum.Enum):
    """Where the measuring is."""

    MEASURING = "measuring"
    PASSED = "passed"
    FAILED = "failed"


class Verdict(msgspec.Struct, frozen=True):
    """A state, and why."""

    state: State
    reason: str = ""


def judge(candidate: Candidate, counts: Counts) -> Verdict:
    """Return what the counts so far mean."""
    gate = candidate.gate
    wrong = counts.differed + counts.errors
    enough = counts.requests >= gate.requests
    compared = max(counts.requests, gate.requests)
    if wrong > compared * (1 - gate.agreement) + 1e-9:
        return Verdict(State.FAILED, _disagrees(gate, counts, wrong))
    if not enough:
        return Verdict(State.MEASURING, f"{counts.requests} of {gate.requests} answers compared")
    slow = _slow(gate, counts)
    return Verdict(State.FAILED, slow) if slow else Verdict(State.PASSED)


def _disagrees(gate: Gate, counts: Counts, wrong: int) -> str:
    text = (
        f"{wrong} of {counts.requests} answers differ or failed ({counts.errors} failed): agreement"
        f" of {gate.agreement:g} over {gate.requests} was asked for"
    )
    return f"{text}; the last: {counts.example}" if counts.example else text


def _slow(gate: Gate, counts: Counts) -> str:
    p95, own = counts.p95_ms, counts.own_p95_ms
    if p95 is None:
        return ""
    if gate.p95_ms is not None and p95 > gate.p95_ms:
        return f"p95 is {p95:.1f} ms, above the gate's p95_ms of {gate.p95_ms:g} ms"
    if gate.p95_ratio is None or own is None or p95 - own <= LEAST_MS:
        return ""
    if p95 > own * gate.p95_ratio:
        ratio = f"the gate's p95_ratio of {gate.p95_ratio:g}"
        return f"p95 is {p95:.1f} ms, the version that answers has {own:.1f} ms: above {ratio}"
    return ""
