"""Waiting for a service, and showing it."""

import threading
import time

from cloud import shapes
from cloud.cli import output
from cloud.client import Client
from cloud.errors import GaveUpError, WaitError

POLL_S = 1.0
REVISION_COLUMNS = ("revision", "serves", "traffic", "state", "ready", "requests", "failed", "why")


def wait(
    registry: Client, service: str, *, revision: str, timeout_s: float
) -> shapes.ServiceDetail:
    """Tell how a service comes on until it is settled or the time is over; return how it stood.

    `revision` is waited for: once it was rolled back, or another took its place, it is settled.
    """
    deadline, tick, told = time.monotonic() + timeout_s, threading.Event(), ""
    while True:
        detail = registry.service(service)
        text = progress(detail)
        if text != told:
            output.say(output.plain(text))
            told = text
        left = deadline - time.monotonic()
        if is_over(detail, revision) or left <= 0:
            return detail
        tick.wait(min(POLL_S, left))


def is_over(detail: shapes.ServiceDetail, revision: str) -> bool:
    """Say whether waiting longer for a revision changes nothing by itself."""
    if detail.deleted_at is not None:
        return True
    found = find(detail, revision)
    failed = found is not None and bool(found.failed_reason)
    away = detail.current != revision or (failed and detail.rollout is None)
    return detail.settled or away


def raise_unless_up(detail: shapes.ServiceDetail, revision: str) -> None:
    """Raise GaveUpError if a revision failed, WaitError if it is still on its way."""
    found = find(detail, revision)
    if detail.deleted_at is not None:
        raise GaveUpError(f"{detail.name} was deleted")
    if found is not None and found.failed_reason:
        raise GaveUpError(f"{revision}: {output.plain(found.failed_reason)}")
    if detail.current != revision:
        raise GaveUpError(f"{revision}: {detail.current} took its place")
    if not detail.settled:
        raise WaitError(f"{detail.name}: {output.plain(progress(detail))}")


def progress(detail: shapes.Service) -> str:
    """Return how a service comes on, in one line."""
    rollout, parts = detail.rollout, [detail.condition]
    if rollout is not None:
        way = f"back from {', '.join(rollout.revisions)}" if rollout.back else rollout.phase
        parts.append(f"{rollout.strategy}: {way}")
        parts += [text for text in (rollout.reason, rollout.waiting) if text]
    elif detail.generation != detail.in_force:
        parts.append("the gateways are being told")
    parts += [detail.trouble] if detail.trouble else []
    parts += [f"{each.code}: {each.text}" for each in detail.reasons[:2]]
    return "; ".join(dict.fromkeys(parts))


def find(detail: shapes.ServiceDetail, revision: str) -> shapes.ServiceRevision | None:
    """Return a revision by its name."""
    return next((each for each in detail.revisions if each.name == revision), None)


def show(detail: shapes.ServiceDetail) -> None:
    """Print a service and its revisions."""
    current = find(detail, detail.current)
    serves = "" if current is None else f" ({current.model}:{current.version})"
    pairs = [
        ("service", detail.name),
        ("on", detail.place),
        ("state", progress(detail)),
        ("seen", output.moment(detail.seen_at)),
        ("current", f"{detail.current}{serves}"),
        ("traffic", weights(detail.traffic)),
        *(
            (("mirror", f"{detail.mirror} ({detail.mirror_fraction:.0%})"),)
            if detail.mirror
            else ()
        ),
        ("rollback goes to", detail.previous or "none"),
        ("endpoint", ", ".join(detail.endpoints) or "none yet"),
        ("keys", "none needed: anonymous" if detail.gateway.anonymous else "needed"),
        ("made", f"{output.moment(detail.created_at)} by {detail.created_by}"),
    ]
    output.facts([(name, output.plain(value)) for name, value in pairs])
    shown = [each for each in detail.revisions if each.running or each is current]
    more = len(detail.revisions) - len(shown)
    rows = [_row(each) for each in shown]
    output.show(REVISION_COLUMNS, rows, none="No revision runs.")
    if more:
        output.say(f"{more} more revisions do not run: --json lists them.")
    for each in shown:
        _show_last_log(each)


def _row(each: shapes.ServiceRevision) -> tuple[str, ...]:
    counted = each.traffic
    why = "; ".join(f"{reason.code}: {reason.text}" for reason in each.reasons[:2])
    return (
        each.name,
        f"{each.model}:{each.version}",
        f"{each.weight} %",
        each.condition,
        f"{each.ready} of {each.wanted}",
        "-" if counted is None else str(counted.requests),
        "-" if counted is None else str(counted.errors),
        why or each.failed_reason,
    )


def _show_last_log(each: shapes.ServiceRevision) -> None:
    lines = next((reason.last_log for reason in each.reasons if reason.last_log), [])
    if lines:
        output.say(f"{each.name} wrote last:")
        for line in lines:
            output.say(f"  {output.plain(line)}")


def weights(traffic: dict[str, int]) -> str:
    """Return shares as they are written: r3=90 r4=10."""
    return " ".join(f"{name}={weight}" for name, weight in sorted(traffic.items()))
