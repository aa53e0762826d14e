"""Whether a canary does as well as the revisions before it: by what the gateways counted. Pure.

A gateway counts from its start, so what happened during a step is what it counts now, less what it
counted when the step began (the **baseline**, kept durably). A gateway that started later has
counted for this step alone; one that is older and was not seen then begins to count when it is
seen. What a gateway that is gone had counted is lost, so that the step takes longer.
"""

import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from cloud.hosting.strategies import Gates
from runtime.gateway.config import LATENCY_BOUNDS_MS, RevisionStats, Status

BUCKETS = len(LATENCY_BOUNDS_MS) + 1
TRIFLE_MS = 5.0
"""A canary this quick is quick enough, whatever the revisions before did."""
_P95 = 0.95


class Counts(msgspec.Struct, frozen=True):
    """What some gateways counted of some revisions."""

    requests: int = 0
    errors: int = 0
    latency: tuple[int, ...] = ()
    """As `RevisionStats.latency_ms`."""

    @property
    def error_rate(self) -> float:
        """Return the fraction of requests that failed."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def p95_ms(self) -> float | None:
        """Return the latency that 95 of 100 requests kept below; None: there were none."""
        return p95(self.latency)


Baseline = dict[str, dict[str, Counts]]
"""By gateway (its start) and revision."""


class Verdict(enum.Enum):
    """What the gates say."""

    HOLDS = "holds"
    FAILS = "fails"
    TOO_FEW = "too few requests"


@dataclass(frozen=True)
class Judgement:
    """What the gates say, and why, for a person."""

    verdict: Verdict
    text: str


def snapshot(statuses: Iterable[Status]) -> Baseline:
    """Return what all gateways count now."""
    return {
        _gateway(status): {stats.name: _counts(stats) for stats in status.revisions}
        for status in statuses
    }


def completed(baseline: Baseline, statuses: Sequence[Status], since: float) -> Baseline:
    """Return a baseline with those gateways that it does not know and that are older than it."""
    older = [
        status
        for status in statuses
        if status.started_at < since and _gateway(status) not in baseline
    ]
    return {**baseline, **snapshot(older)} if older else baseline


def since_then(baseline: Baseline, statuses: Iterable[Status], names: Iterable[str]) -> Counts:
    """Return what was counted of these revisions, together, since the baseline."""
    wanted, total = set(names), Counts(latency=(0,) * BUCKETS)
    for status in statuses:
        before = baseline.get(_gateway(status), {})
        for stats in status.revisions:
            if stats.name in wanted:
                now = _counts(stats)
                total = _sum(total, _less(now, before.get(stats.name, Counts())))
    return total


def judge(gates: Gates, canary: Counts, stable: Counts | None) -> Judgement:
    """Return whether the gates hold; `stable` None: there is nothing to compare with."""
    failed = _errors(gates, canary, stable)
    if failed:
        return Judgement(Verdict.FAILS, failed)
    if canary.requests < gates.min_requests:
        text = f"{canary.requests} of {gates.min_requests} requests so far"
        return Judgement(Verdict.TOO_FEW, text)
    slow = _slowness(gates, canary, stable)
    if slow:
        return Judgement(Verdict.FAILS, slow)
    return Judgement(Verdict.HOLDS, _summary(canary))


def _errors(gates: Gates, canary: Counts, stable: Counts | None) -> str:
    """Return why there are too many errors: even if all that is still to come went well."""
    asked = max(canary.requests, gates.min_requests)
    rate, shown = canary.errors / asked, f"{canary.errors} of {canary.requests} requests failed"
    if gates.max_error_rate is not None and rate > gates.max_error_rate:
        return f"{shown}: above {gates.max_error_rate:.2%} (max_error_rate)"
    if gates.max_error_excess is None or stable is None:
        return ""
    allowed = stable.error_rate + gates.max_error_excess
    if rate > allowed:
        return (
            f"{shown}, {stable.error_rate:.2%} of those to the revisions before: more than "
            f"{gates.max_error_excess:.2%} above (max_error_excess)"
        )
    return ""


def _slowness(gates: Gates, canary: Counts, stable: Counts | None) -> str:
    if gates.max_p95_ratio is None or stable is None or stable.requests < gates.min_requests:
        return ""
    new, old = canary.p95_ms, stable.p95_ms
    if new is None or old is None or new <= TRIFLE_MS or new <= old * gates.max_p95_ratio:
        return ""
    return (
        f"95 of 100 requests took up to {new:.0f} ms, {old:.0f} ms at the revisions before: more "
        f"than {gates.max_p95_ratio:g} times (max_p95_ratio)"
    )


def _summary(counts: Counts) -> str:
    slow = counts.p95_ms
    took = "" if slow is None else f", 95 of 100 within {slow:.0f} ms"
    return f"{counts.requests} requests, {counts.errors} failed{took}"


def p95(latency: Sequence[int]) -> float | None:
    """Return the 95th percentile of a histogram over LATENCY_BOUNDS_MS; None if it is empty.

    Between two bounds it is taken as even; above the last it is that bound.
    """
    total = sum(latency)
    if not total:
        return None
    wanted, below, low = total * _P95, 0, 0.0
    for count, high in zip(latency, LATENCY_BOUNDS_MS, strict=False):
        if count and below + count >= wanted:
            return low + (high - low) * (wanted - below) / count
        below, low = below + count, high
    return LATENCY_BOUNDS_MS[-1]


def _gateway(status: Status) -> str:
    return repr(status.started_at)


def _counts(stats: RevisionStats) -> Counts:
    return Counts(stats.requests, stats.errors, stats.latency_ms)


def _less(now: Counts, before: Counts) -> Counts:
    """Return what came since; counts that went down were begun anew."""
    if now.requests < before.requests or now.errors < before.errors:
        return now
    latency = tuple(
        max(0, new - old) for new, old in zip(_padded(now), _padded(before), strict=True)
    )
    return Counts(now.requests - before.requests, now.errors - before.errors, latency)


def _sum(one: Counts, other: Counts) -> Counts:
    latency = tuple(a + b for a, b in zip(_padded(one), _padded(other), strict=True))
    return Counts(one.requests + other.requests, one.errors + other.errors, latency)


def _padded(counts: Counts) -> tuple[int, ...]:
    return (*counts.latency, *(0,) * BUCKETS)[:BUCKETS]


def totals(statuses: Iterable[Status]) -> Mapping[str, Counts]:
    """Return what all gateways count of each revision now."""
    found = list(statuses)
    names = {stats.name for status in found for stats in status.revisions}
    return {name: since_then({}, found, {name}) for name in sorted(names)}
