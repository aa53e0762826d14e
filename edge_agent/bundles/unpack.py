"""Decoding: zstd in this process, all else in a child that ends with each blob.

The supervisor stays small, so what needs numpy runs as `python -m runtime.bundle.unpack`: at low
priority, so that inference does not notice, with a limit to its memory, and dead with the thread
that started it. A decoder that is killed or crashes is a blob that did not decode, no more.
"""

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec

from edge_agent.bundles import room
from runtime import children, files
from runtime.bundle import encodings
from runtime.bundle.blobs import BlobStore
from runtime.bundle.parts import PartTable
from runtime.digests import Digest
from runtime.errors import IntegrityError, PackhorseError, SpaceError

NICENESS = 10
MOST_BYTES = 256 << 20
"""No decoder needs more, however much is free."""
POLL_S = 0.2
MAX_WORDS_BYTES = 64 * 1024
IN_PROCESS = frozenset({encodings.ZSTD})
"""What needs no numpy and little memory."""


class Words(msgspec.Struct, frozen=True):
    """Why a decoder failed: its last line."""

    kind: str
    text: str


def unpack(
    table: PartTable,
    encoded: Path,
    blobs: BlobStore,
    *,
    base: Digest | None,
    memory_bytes: int,
    check: Callable[[], None],
) -> None:
    """Durably store what an encoded file unfolds to.

    `check` is called now and then and may raise, which ends it. Raises IntegrityError, and leaves
    nothing, if that is not the blob that the table promises; SpaceError if the disk is full.
    """
    if table.encoding in IN_PROCESS:
        encodings.decode(table.encoding, encoded, blobs, size=table.size, sha256=table.blob)
        return
    argv = [sys.executable, "-m", "runtime.bundle.unpack", "--store", str(blobs.root)]
    argv += ["--encoding", table.encoding, "--file", str(encoded)]
    argv += ["--size", str(table.size), "--sha256", table.blob]
    if base is not None:
        argv += ["--base", str(blobs.path(base))]
    with os.fdopen(os.memfd_create("decoder"), "w+b") as said:
        limit_bytes = room.DECODER_BYTES + min(memory_bytes, MOST_BYTES)
        code = _run(argv, said, limit_bytes=limit_bytes, check=check)
        if code != 0:
            said.seek(0)
            raise _error(table, encoded, code, said.read(MAX_WORDS_BYTES))


def _run(argv: list[str], said: IO[bytes], *, limit_bytes: int, check: Callable[[], None]) -> int:
    # One thread: the numeric libraries would reserve memory for each core.
    env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    child = children.spawn(argv, env=env, stderr=said, stdout=subprocess.DEVNULL)
    try:
        with contextlib.suppress(ProcessLookupError):  # it may have ended already
            os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
            resource.prlimit(child.pid, resource.RLIMIT_DATA, (limit_bytes, limit_bytes))
        while True:
            check()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(POLL_S)
    finally:
        child.kill()
        child.wait()


def _error(table: PartTable, encoded: Path, code: int, said: bytes) -> PackhorseError:
    """Return the error for a decoder that ended badly."""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    last = lines[-1] if lines else ""
    try:
        words = msgspec.json.decode(last, type=Words)
    except msgspec.DecodeError:
        words = Words("", last)
    if words.kind == SpaceError.__name__:
        free = files.free_bytes(encoded.parent)
        return SpaceError(str(encoded.parent), needed_bytes=table.size, free_bytes=free)
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return IntegrityError(
        f"blob {table.blob} as {table.encoding}",
        wanted="what was promised",
        got=f"{words.text or words.kind or 'no word'} ({how})",
    )
