"""What may wait does, and what steers the device never does."""

import threading
from pathlib import Path

import pytest

from edge_agent import pace
from edge_agent.pace import Pace
from edge_agent.telemetry.batcher import Packed
from edge_agent.telemetry.outbox import Intake, Outbox
from edge_agent.telemetry.sender import Sender
from edge_agent.telemetry.turnstile import Turnstile
from runtime.topics import DeviceId


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


def test_a_tenth_of_a_cap_stays_free_for_what_steers_the_device() -> None:
    made = pace.of_kbps(80, clock=Clock())  # 10,000 bytes a second

    assert made is not None
    assert made.take(made.most) == 0
    assert made.take(9000) == pytest.approx(1.0)


def test_without_a_cap_there_is_no_pace() -> None:
    assert pace.of_kbps(0) is None


def test_all_who_share_a_pace_stay_below_it_together() -> None:
    clock = Clock()
    shared = Pace(1000, clock=clock)
    waits: list[float] = []
    threads = [threading.Thread(target=lambda: waits.append(shared.take(500))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(waits) == [max(0.0, (500 * n - shared.most) / 1000) for n in range(1, 9)]


def test_a_batch_that_was_dropped_while_it_waited_costs_nothing() -> None:
    clock = Clock()
    stile = Turnstile(Pace(1000, clock=clock))

    assert not stile.lets(1, 5250, clock.at)
    assert not stile.lets(2, 1250, clock.at)
    assert stile.opens_at == clock.at + 1.0
    assert stile.lets(2, 1250, clock.at + 1.0)


def test_a_backlog_after_an_outage_leaves_the_uplink_usable(tmp_path: Path) -> None:
    """Complaint: after an outage the backlog takes the whole uplink."""
    clock = Clock()
    sent: list[tuple[float, int]] = []
    outbox = Outbox(tmp_path / "outbox.sqlite3", cap_bytes=1 << 30)
    for _ in range(20):
        outbox.add(Intake([Packed("result", 1, b"x" * 2000)]), clock.at)
    sender = Sender(
        outbox,
        DeviceId("dev-a"),
        lambda payload: sent.append((clock.at, len(payload))),
        clock,
        window=100,
        resend_s=1e9,
        pace=Pace(1000, clock=clock),
    )
    sender.connected(clock.at)
    started = clock.at
    while (next_at := sender.step(clock.at)) is not None and len(sent) < 20:
        assert sent or sender.stalled_since(clock.at + 1e6) is None, "our own cap is no stall"
        clock.at = next_at
    outbox.close()

    for at, _ in sent:
        moved = sum(2000 for when, _ in sent if when <= at)
        assert moved <= 250 + 1000 * (at - started) + 1e-6
    assert clock.at - started == pytest.approx(40, abs=1)
