"""A spool behaves like a list, whoever is killed at whatever byte."""

import os
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from edge_agent.telemetry import segments
from edge_agent.telemetry.spool import SpoolReader, SpoolWriter

PAYLOADS = st.binary(min_size=1, max_size=120)


class SpoolMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory(prefix="spool-")
        self.path = Path(self.directory.name)
        self.writer = self.new_writer()
        self.reader = SpoolReader(self.path)
        self.cursors: dict[str, int] = {}
        self.appended: list[bytes] = []
        self.read: list[bytes] = []

    def new_writer(self) -> SpoolWriter:
        return SpoolWriter(self.path, segment_bytes=300)

    @rule(payload=PAYLOADS)
    def append(self, payload: bytes) -> None:
        self.writer.append(payload)
        self.appended.append(payload)

    @rule(payload=PAYLOADS, share=st.floats(0, 1, exclude_max=True))
    def kill_while_appending(self, payload: bytes, share: float) -> None:
        """The write got as far as some byte of the frame; the lock goes with the process."""
        frame = segments.encode(payload)
        if self.writer._handle is not None:
            os.write(self.writer._handle, frame[: int(len(frame) * share)])
        self.writer.close()
        self.writer = self.new_writer()

    @rule(limit=st.integers(1, 5))
    def take(self, limit: int) -> None:
        frames = self.reader.read(self.cursors, limit)
        self.read += [frame.payload for frame in frames]
        self.cursors.update((frame.segment, frame.end) for frame in frames)

    @rule()
    def remove_finished(self) -> None:
        for segment in self.reader.finished(self.cursors):
            self.reader.remove(segment, self.cursors.pop(segment, 0))

    @rule()
    def restart_the_reader(self) -> None:
        self.reader = SpoolReader(self.path)

    @invariant()
    def what_was_read_is_what_was_appended(self) -> None:
        assert self.read == self.appended[: len(self.read)]

    def teardown(self) -> None:
        self.writer.close()
        while len(self.read) < len(self.appended):
            before = len(self.read)
            self.take(100)
            assert len(self.read) > before
        self.remove_finished()
        assert self.read == self.appended
        assert list(self.path.iterdir()) == []
        self.directory.cleanup()


TestSpoolMachine = SpoolMachine.TestCase
TestSpoolMachine.settings = settings(max_examples=60, stateful_step_count=30)
