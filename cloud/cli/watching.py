"""Waiting for a deployment, and showing it meanwhile."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cloud import shapes
from cloud.cli import candidates, output
from cloud.client import Client
from cloud.errors import GaveUpError, WaitError
from runtime.wording import counted

if TYPE_CHECKING:
    from rich.table import Table

POLL_S = 1.0
SHOWN = 30
"""Devices in the live table; those that run it already are left out first."""
COLUMNS = ("device", "stage", "presence", "runs", "reason")


def watch(registry: Client, deployment: str, *, timeout_s: float) -> shapes.DeploymentDetail:
    """Show a deployment until it is settled or the time is over; return how it stood then."""
    deadline = time.monotonic() + timeout_s
    tick = threading.Event()
    with _display() as display:
        while True:
            detail = registry.deployment(deployment)
            display(detail)
            left = deadline - time.monotonic()
            done = detail.overview.settled or detail.deployment.cancelled_at is not None
            if done or left <= 0:
                return detail
            tick.wait(min(POLL_S, left))


def raise_unless_complete(detail: shapes.DeploymentDetail) -> None:
    """Raise GaveUpError if a device gave up, WaitError if some are still on their way."""
    if detail.overview.complete:
        return
    if detail.deployment.cancelled_at is not None:
        raise GaveUpError(f"deployment: {detail.deployment.id} was cancelled")
    failed = [each for each in detail.devices if each.stage == "failed" and not each.retrying]
    if failed:
        first = failed[0]
        raise GaveUpError(
            f"{counted(len(failed), 'device')} gave up; {first.device}: {first.reason}"
        )
    open_ones = [each for each in detail.devices if each.stage not in {"running", "superseded"}]
    if not open_ones:
        raise WaitError("deployment: no device that it decides matches its selector yet")
    first = open_ones[0]
    away = counted(len(open_ones), "device is not there yet", "devices are not there yet")
    raise WaitError(f"{away}; {first.device}: {first.stage}, {first.reason}")


def summary(detail: shapes.DeploymentDetail) -> str:
    """Return how far a deployment is, in one line."""
    overview = detail.overview
    stages = ", ".join(f"{count} {stage}" for stage, count in sorted(overview.by_stage.items()))
    selected = counted(overview.selected, "device")
    return f"{selected}: {stages or 'none match yet'}; {overview.healthy} healthy"


def rows(detail: shapes.DeploymentDetail) -> list[tuple[str, ...]]:
    """Return a line for each device."""
    return [
        (
            each.device,
            each.stage,
            each.presence,
            f"{each.running.model}:{each.running.version}" if each.running else "nothing",
            "; ".join(filter(None, (each.reason, candidates.state(each.candidate)))),
        )
        for each in detail.devices
    ]


@contextlib.contextmanager
def _display() -> Iterator[Callable[[shapes.DeploymentDetail], None]]:
    if not sys.stderr.isatty():
        yield _Lines().show
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False) as live:
        yield lambda detail: live.update(_live_table(detail), refresh=True)


def _live_table(detail: shapes.DeploymentDetail) -> "Table":
    first = sorted(detail.devices, key=lambda each: each.stage == "running")[:SHOWN]
    shown = output.table(COLUMNS, rows(detail.model_copy(update={"devices": first})))
    shown.caption = summary(detail)
    return shown


class _Lines:
    """Tells each change once, for logs."""

    def __init__(self) -> None:
        self._told = ""

    def show(self, detail: shapes.DeploymentDetail) -> None:
        text = summary(detail)
        if text != self._told:
            output.say(text)
        self._told = text
