"""Compares two versions in a child: what a model file says of itself must not bring the registry
down, nor keep it from answering.

parent   Differ.run: looks up what is ready, lends the blobs, waits for MOST_S at most
child    python -m cloud.deltas.comparison < job > diff (both JSON)
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import IO, Final

import msgspec

from cloud import shapes
from cloud.deltas import changes, ledger, policy
from cloud.deltas.costs import Size
from cloud.deltas.jobs import Job, SideJob
from cloud.deltas.ledger import State
from cloud.errors import BusyError
from cloud.services import Services
from cloud.storage.encodings import AUTO, Recipe
from runtime import children
from runtime.bundle import encodings, index
from runtime.bundle.index import Index
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

MAX_BYTES: Final = 2 << 30
"""Of the files that have to be looked at."""
MOST_S: Final = 60.0
EXACT_S: Final = 20.0
"""So long, encodings are made to be measured; then they are estimated."""
MAX_ANSWER_BYTES: Final = 64 << 20
_TURN_S: Final = 5.0
_POLL_S: Final = 0.05
_ELSEWHERE = "`packhorse models pull` both, and compare the directories"


@dataclass(frozen=True)
class Version:
    """A registered version."""

    label: str
    """NAME:NUMBER."""
    bundle: Digest


class Differ:
    """Compares versions of one registry. Any thread may use it; one at a time is served."""

    def __init__(self, services: Services) -> None:
        """Work with these parts."""
        self._services = services

    def run(self, old: Version, new: Version) -> shapes.Diff:
        """Return what lies between two versions.

        Raises BusyError while another comparison is under way; InvalidError if the files are too
        large or take too long; IntegrityError if the child fails.
        """
        if not self._services.comparing.acquire(timeout=_TURN_S):
            raise BusyError("diff: the registry is comparing something else: try again")
        try:
            return self._run(old, new)
        finally:
            self._services.comparing.release()

    def _run(self, old: Version, new: Version) -> shapes.Diff:
        blobs = self._services.blobs
        texts = [
            blobs.bytes_of(each.bundle, limit_bytes=index.MAX_INDEX_BYTES) for each in (old, new)
        ]
        then, now = map(index.decode, texts)
        needed = changes.needed(then, now)
        if sum(needed.values()) > MAX_BYTES:
            fix = f"more than {MAX_BYTES} bytes would have to be read: {_ELSEWHERE}"
            raise InvalidError("to", new.label, fix)
        until = time.monotonic() + MOST_S
        known, useless = self._known(now, new, until)
        with contextlib.ExitStack() as lent:
            scratch = lent.enter_context(
                tempfile.TemporaryDirectory(dir=self._services.store.scratch(), prefix="diff-")
            )
            places = {}
            for blob in dict.fromkeys((*needed, new.bundle)):
                self._require_time(until, new)
                places[blob] = str(lent.enter_context(blobs.local(blob)))
            job = Job(
                old=SideJob(old.label, old.bundle, texts[0].decode()),
                new=SideJob(new.label, new.bundle, texts[1].decode()),
                places=places,
                known=known,
                useless=useless,
                scratch=scratch,
                seconds=EXACT_S,
            )
            return self._ask(job, new, until)

    def _known(
        self, listed: Index, new: Version, until: float
    ) -> tuple[dict[Digest, list[Size]], list[tuple[Digest, str]]]:
        """Return what is ready to be sent, and what was tried for nothing."""
        blobs = {new.bundle, *(entry.sha256 for entry in listed.files)}
        with self._services.reading() as session:
            entries = ledger.entries(session, blobs)
        large = (each.sha256 for each in listed.files if each.size >= policy.LEAST_BYTES)
        likely = {Recipe(blob, encodings.ZSTD): 0 for blob in large}
        useless = []
        for recipe, entry in entries.items():
            if entry.state in {State.USELESS, State.FAILED}:
                useless.append((recipe.blob, recipe.base or recipe.encoding))
            elif entry.state is State.READY and recipe.encoding != AUTO:
                likely[recipe] = entry.memory_bytes
        known: dict[Digest, list[Size]] = {}
        for recipe, memory_bytes in likely.items():
            self._require_time(until, new)
            ready = self._services.encodings.ready(recipe)
            if ready is not None:
                size = Size(recipe.encoding, recipe.base, ready.table.encoded_size, memory_bytes)
                known.setdefault(recipe.blob, []).append(size)
        return known, useless

    def _ask(self, job: Job, new: Version, until: float) -> shapes.Diff:
        """Have a child do it."""
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        argv = [sys.executable, "-m", "cloud.deltas.comparison"]
        with (
            tempfile.TemporaryFile() as told,
            tempfile.TemporaryFile() as said,
            tempfile.TemporaryFile() as complained,
        ):
            told.write(msgspec.json.encode(job))
            told.seek(0)
            child = children.spawn(argv, env=env, stdin=told, stdout=said, stderr=complained)
            code = self._wait(child, new, until)
            if code != 0:
                raise _failed(code, _text(complained))
            return shapes.Diff.model_validate_json(_text(said))

    def _wait(self, child: subprocess.Popen[bytes], new: Version, until: float) -> int:
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.wait(_POLL_S)
                self._require_time(until, new)
        finally:
            child.kill()
            child.wait()

    def _require_time(self, until: float, new: Version) -> None:
        if self._services.stopping.is_set():
            raise BusyError("diff: the registry is stopping: try again")
        if time.monotonic() > until:
            raise InvalidError("to", new.label, f"it takes more than {MOST_S:.0f} s: {_ELSEWHERE}")


def _text(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read(MAX_ANSWER_BYTES)


def _failed(code: int, words: bytes) -> IntegrityError:
    lines = words.decode("utf-8", "replace").strip().splitlines() or ["no word"]
    return IntegrityError("diff", wanted="a comparison", got=f"{lines[-1]} (exit code {code})")
