"""Garbage collection against a plain model: whatever is uploaded, asked for, registered, deleted,
collected and killed in whatever order, and between the steps of a collection, no bundle ever lacks
a blob.
"""

import itertools
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from cloud.errors import MissingBlobsError, StoreError
from cloud.storage.collect import Collector
from cloud.storage.encodings import Recipe
from runtime.bundle import encodings
from tests.support import powercuts, registries, stored
from tests.support.registries import SetClock
from tests.support.stored import GRACE_S

NUMBERS = st.integers(min_value=0, max_value=2)
SOME = st.frozensets(NUMBERS, min_size=1, max_size=2)
PUSHES = st.dictionaries(st.integers(min_value=0, max_value=3), SOME, max_size=2)
"""What is pushed after which steps of a collection."""
STEPS = st.integers(min_value=0, max_value=5) | st.none()
WAITS = st.sampled_from([0.0, 0.3, 1.1])
"""In graces."""


class Garbage(RuleBasedStateMachine):
    """A registry whose process may be killed at any step of a collection."""

    def __init__(self) -> None:
        super().__init__()
        self._data = Path(tempfile.mkdtemp())
        self._clock = SetClock()
        self._bundles: dict[str, frozenset[int]] = {}
        self._numbers = itertools.count()
        self._promised: dict[int, float] = {}
        """Blobs that a client was told of, and until when they must stay at least."""
        self._coming: dict[int, int] = {}
        """Blobs whose bytes are stored and whose row is to come, with `deletions` before that."""

    @initialize()
    def start(self) -> None:
        self._services = registries.services(self._data, clock=self._clock, gc_grace_s=GRACE_S)
        self._collector = Collector(self._services)

    @rule(number=NUMBERS)
    def upload(self, number: int) -> None:
        stored.upload(self._services, number)
        self._promised[number] = self._clock.at + 0.9 * GRACE_S

    @rule(number=NUMBERS)
    def upload_bytes(self, number: int) -> None:
        """What comes between this and the row overtakes the upload, or kills it."""
        self._coming[number] = self._services.presence.deletions()
        self._services.blobs.put_bytes(stored.content_of(number))

    @rule(number=NUMBERS)
    def upload_row(self, number: int) -> None:
        before = self._coming.pop(number, None)
        if before is None:
            return
        digest, size = stored.digest_of(number), len(stored.content_of(number))
        try:
            self._services.presence.stored(digest, size, before=before)
        except StoreError:
            assert not self._services.blobs.has(digest), "only what is gone must be sent again"
        else:
            self._promised[number] = self._clock.at + 0.9 * GRACE_S

    @rule(number=NUMBERS)
    def ask(self, number: int) -> None:
        if self._services.presence.find(stored.digest_of(number)) is not None:
            self._promised[number] = self._clock.at + 0.9 * GRACE_S

    @rule(numbers=SOME)
    def register(self, numbers: frozenset[int]) -> None:
        bundle = f"bundle {next(self._numbers)} of {sorted(numbers)}"
        promised = all(self._clock.at < self._promised.get(each, 0) for each in numbers)
        try:
            stored.register(self._services, bundle, numbers)
        except MissingBlobsError:
            assert not promised, "what a client was told of can be registered"
        else:
            self._bundles[bundle] = numbers

    @rule(data=st.data())
    def forget(self, data: st.DataObject) -> None:
        for bundle in data.draw(st.sampled_from([[], list(self._bundles)[:1]])):
            stored.forget(self._services, bundle)
            del self._bundles[bundle]

    @rule(number=NUMBERS)
    def encode(self, number: int) -> None:
        if self._services.blobs.has(stored.digest_of(number)):
            self._services.encodings.get(Recipe(stored.digest_of(number), encodings.ZSTD))

    @rule(part=WAITS, last=STEPS, pushes=PUSHES)
    def collect(self, part: float, last: int | None, pushes: dict[int, frozenset[int]]) -> None:
        def push(step: int) -> None:
            if step in pushes:
                for number in pushes[step]:
                    self.upload(number)
                self.register(pushes[step])

        self._clock.at += part * GRACE_S
        with powercuts.after(last):
            self._collector.run(actor="test", stopping=stored.Meanwhile(push))

    @rule()
    def restart(self) -> None:
        self._services.engine.dispose()
        self._coming.clear()
        self.start()

    @invariant()
    def no_bundle_lacks_a_blob(self) -> None:
        assert stored.lost(self._services) == []

    @invariant()
    def what_was_promised_is_here(self) -> None:
        here = {each for each in self._promised if self._clock.at < self._promised[each]}
        assert all(self._services.blobs.has(stored.digest_of(each)) for each in here)

    @invariant()
    def rows_tell_the_truth(self) -> None:
        assert stored.stray(self._services) == []

    def teardown(self) -> None:
        """Collected to the end, what nothing refers to is gone, and nothing else."""
        self._clock.at += 2 * GRACE_S
        self._collector.run(actor="test")  # adopts what has no row
        self._clock.at += 2 * GRACE_S
        self._collector.run(actor="test")
        used = {stored.digest_of(each) for each in set().union(*self._bundles.values(), ())}
        left = {found.key for found in self._services.store.list("")}
        assert set(self._services.blobs.digests()) == used
        assert all(any(each in key for each in used) for key in left if "encodings/" in key)
        self._services.engine.dispose()
        shutil.rmtree(self._data)


Garbage.TestCase.settings = settings(max_examples=15, stateful_step_count=25)
TestGarbage = Garbage.TestCase
