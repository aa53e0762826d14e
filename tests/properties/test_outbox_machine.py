"""An outbox behaves like a list, wherever the power is cut."""

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_agent.telemetry import batcher
from edge_agent.telemetry.batcher import Packed
from edge_agent.telemetry.outbox import Intake, Outbox
from tests.support import powercuts

NOW = 1_800_000_000.0
PACKED = st.builds(
    Packed,
    st.sampled_from(batcher.CLASSES),
    st.integers(1, 1000),
    st.binary(min_size=1, max_size=20) | st.integers(5000, 60_000).map(bytes),
)
INTAKES = st.builds(
    Intake,
    st.lists(PACKED, max_size=3),
    st.dictionaries(st.tuples(st.sampled_from("ab"), st.sampled_from("12")), st.integers(0, 99)),
    st.dictionaries(st.tuples(st.sampled_from("ab"), st.just("s")), st.text(max_size=3)),
    drops=st.dictionaries(st.just("unreadable"), st.integers(1, 3)),
)


class OutboxMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="outbox-")
        self.lives = 0
        self.path = Path(self.directory.name) / "0" / "outbox.db"
        self.outbox = Outbox(self.path)
        self.epoch = self.outbox.epoch
        self.given = 0
        self.waiting: dict[int, Packed] = {}
        self.acknowledged: dict[int, Packed] = {}
        """Forgotten, and a power cut may bring them back until something else is committed."""
        self.cursors: dict[tuple[str, str], int] = {}
        self.positions: dict[tuple[str, str], str] = {}
        self.drops: dict[str, int] = {}

    def committed(self) -> None:
        self.acknowledged.clear()

    def took(self, intake: Intake) -> None:
        self.committed()
        for packed in intake.batches:
            self.given += 1
            self.waiting[self.given] = packed
        self.cursors.update(intake.cursors)
        self.positions.update(intake.positions)
        self.count(intake.drops)

    def count(self, drops: Mapping[str, int]) -> None:
        for reason, records in drops.items():
            self.drops[reason] = self.drops.get(reason, 0) + records

    @rule(intake=INTAKES)
    def put(self, intake: Intake) -> None:
        first = self.given + 1
        assert self.outbox.add(intake, NOW) == list(range(first, first + len(intake.batches)))
        self.took(intake)

    @rule(limit=st.integers(1, 8), skipped=st.sets(st.integers(1, 9)))
    def send(self, limit: int, skipped: set[int]) -> None:
        order = sorted(self.waiting, key=lambda n: (batcher.rank_of(self.waiting[n].kind), n))
        expected = [number for number in order if number not in skipped][:limit]
        found = self.outbox.pending(limit, skip=list(skipped))
        assert [batch.sequence for batch in found] == expected
        assert [batch.body for batch in found] == [self.waiting[n].body for n in expected]
        assert [self.outbox.waiting(number) for number in expected] == found

    @rule(numbers=st.sets(st.integers(1, 30)), drop=st.none() | st.just("rejected"))
    def acknowledge(self, numbers: set[int], drop: str | None) -> None:
        known = {number: self.waiting.pop(number) for number in numbers if number in self.waiting}
        assert self.outbox.delete(list(numbers), drop=drop) == len(known)
        self.acknowledged.update(known)
        if drop is not None and known:
            self.count({drop: sum(packed.records for packed in known.values())})
            self.committed()

    @rule()
    def restart(self) -> None:
        self.outbox.close()
        self.committed()
        self.outbox = Outbox(self.path)

    @rule()
    def power_cut(self) -> None:
        self.lives += 1
        copy = Path(self.directory.name) / str(self.lives)
        shutil.copytree(self.path.parent, copy)
        self.outbox.close()
        self.path = copy / "outbox.db"
        self.outbox = Outbox(self.path)
        back = {one.sequence for one in self.outbox.pending(10_000)} - self.waiting.keys()
        assert back <= self.acknowledged.keys()
        self.waiting.update({number: self.acknowledged[number] for number in back})
        self.committed()

    @rule(intake=INTAKES, steps=st.integers(0, 3))
    def power_cut_while_putting(self, intake: Intake, steps: int) -> None:
        with powercuts.after(steps):
            self.outbox.add(intake, NOW)
        if steps >= 2:
            self.took(intake)
        self.power_cut()

    @invariant()
    def disk_equals_list(self) -> None:
        stats = self.outbox.stats()
        assert stats.batches == len(self.waiting)
        assert stats.records == sum(packed.records for packed in self.waiting.values())
        assert stats.body_bytes == sum(len(packed.body) for packed in self.waiting.values())
        assert stats.drops == self.drops
        assert self.outbox.epoch == self.epoch
        for module in "ab":
            assert self.outbox.cursors(module) == _of(module, self.cursors)
            assert self.outbox.positions(module) == _of(module, self.positions)

    def teardown(self) -> None:
        self.outbox.close()
        self.directory.cleanup()


def _of(module: str, values: Mapping[tuple[str, str], object]) -> dict[str, object]:
    return {key: value for (name, key), value in values.items() if name == module}


TestOutboxMachine = OutboxMachine.TestCase
TestOutboxMachine.settings = settings(max_examples=25, stateful_step_count=20)
