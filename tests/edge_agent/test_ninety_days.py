"""Three months without a network, by an injected clock, and the day after: no storm, no loss."""

import random
from collections import deque
from collections.abc import Iterator

import pytest

from edge_agent.reporter import Pace
from edge_agent.telemetry.batcher import Packed
from edge_agent.telemetry.outbox import Intake, Outbox
from edge_agent.telemetry.sender import WINDOW, Sender
from runtime import batches, topics
from runtime.messages import Ack
from runtime.retry import Backoff

DEVICE = topics.device_id("dev-1")
BEGAN = 1_800_000_000.0
DAY_S = 86_400.0
DAYS = 90
EVERY_S = 7200.0
RECORDS = 100
COUNT = int(DAYS * DAY_S / EVERY_S)
BODY = random.Random(0).randbytes(4000)


@pytest.fixture(scope="module")
def outbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outbox]:
    """Give what a device has kept that made records all the time."""
    box = Outbox(tmp_path_factory.mktemp("device") / "outbox.sqlite3")
    for number in range(COUNT):
        now = BEGAN + number * EVERY_S
        box.add(Intake(batches=[Packed("result", RECORDS, BODY)]), now)
    yield box
    box.close()


class Registry:
    """The far end: acknowledges each batch so long after it came."""

    def __init__(self, takes_s: float) -> None:
        self.takes_s, self.now = takes_s, BEGAN + DAYS * DAY_S - EVERY_S
        self.arrived: list[int] = []
        self.unanswered: deque[tuple[float, Ack]] = deque()
        self.most_unanswered = 0

    def publish(self, payload: bytes) -> None:
        header, _ = batches.unwrap(payload)
        self.arrived.append(header.sequence)
        ack = Ack(header.epoch, stored=(header.sequence,))
        self.unanswered.append((self.now + self.takes_s, ack))
        self.most_unanswered = max(self.most_unanswered, len(self.unanswered))

    def catch_up(self, sender: Sender) -> float:
        """Let the device send until nothing waits; return the seconds that went by."""
        began = self.now
        sender.connected(self.now)
        while True:
            sender.step(self.now)
            if not self.unanswered:
                return self.now - began
            self.now, ack = self.unanswered.popleft()
            sender.acknowledge(ack, self.now)


def test_ninety_days_of_records_are_kept_and_then_sent_once_each_and_a_window_at_a_time(
    outbox: Outbox,
) -> None:
    assert outbox.stats().batches == COUNT
    registry = Registry(takes_s=0.2)
    sender = Sender(outbox, DEVICE, registry.publish, lambda: registry.now)

    took_s = registry.catch_up(sender)

    assert registry.arrived == sorted(set(registry.arrived)), "each once, the oldest first"
    assert len(registry.arrived) == COUNT
    assert outbox.stats().batches == 0
    assert dict(outbox.stats().drops) == {}
    assert registry.most_unanswered <= WINDOW
    assert took_s >= COUNT / WINDOW * 0.2 * 0.9, "no faster than the registry takes them"


def test_a_device_that_is_offline_for_ninety_days_tries_a_few_hundred_times_a_day() -> None:
    backoff = Backoff(first_s=20.0, most_s=300.0, rng=random.Random(0))
    passed_s = tries = 0.0
    while passed_s < DAYS * DAY_S:
        passed_s += backoff.next()
        tries += 1

    assert 450 < tries / DAYS < 700


def test_ninety_days_of_changes_make_one_report() -> None:
    pace = Pace(60.0, random.Random(0))
    for hour in range(DAYS * 24):
        pace.changed(hour * 3600.0, urgent=True)
    back_at = DAYS * DAY_S

    pace.connected()

    assert pace.wait_s(back_at) == 0.0
    assert pace.take(back_at)
    waits = pace.wait_s(back_at)
    assert waits is not None
    assert waits > 40.0
