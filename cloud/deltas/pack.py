"""Encodes in a process of its own, so that the registry answers while it works, and outlives it.

parent  run(encoding, source, target, base=…)   at low priority, stopped when the registry stops
child   python -m cloud.deltas.pack …           writes the target, or one line on why not
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from cloud.storage.encodings import AUTO
from runtime import children
from runtime.bundle import encodings
from runtime.errors import IntegrityError, PackhorseError, SpaceError

NICENESS = 15
POLL_S = 0.2
MOST_S = 4 * 3600.0
"""No encoding takes longer."""
_MAX_WORDS = 64 * 1024


class Packer:
    """Encodes in children, one after the other; they end with the thread that started them."""

    def __init__(self, stopping: threading.Event) -> None:
        self._stopping = stopping

    def encode(
        self, encoding: str, source: Path, target: Path, *, base: Path | None = None
    ) -> None:
        """Do what `runtime.bundle.encodings.encode` does.

        Raises IntegrityError if the child fails or takes too long, SpaceError if the disk is full.
        """
        argv = [sys.executable, "-m", "cloud.deltas.pack", encoding, str(source), str(target)]
        argv += [str(base)] if base is not None else []
        env = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with tempfile.TemporaryFile() as said:
            child = children.spawn(argv, env=env, stdout=subprocess.DEVNULL, stderr=said)
            code = self._wait(child)
            if code != 0:
                said.seek(0)
                words = said.read(_MAX_WORDS).decode("utf-8", "replace").strip()
                raise _error(encoding, target, code, words)

    def _wait(self, child: subprocess.Popen[bytes]) -> int:
        with contextlib.suppress(ProcessLookupError):  # it may have ended already
            os.setpriority(os.PRIO_PROCESS, child.pid, NICENESS)
        waited = 0.0
        try:
            while waited < MOST_S and not self._stopping.is_set():
                with contextlib.suppress(subprocess.TimeoutExpired):
                    return child.wait(POLL_S)
                waited += POLL_S
        finally:
            child.kill()
            child.wait()
        return child.returncode


def _error(encoding: str, target: Path, code: int, words: str) -> PackhorseError:
    lines = words.splitlines() or [""]
    kind, text = "", lines[-1]
    with contextlib.suppress(ValueError, KeyError, TypeError):
        plain = json.loads(lines[-1])
        kind, text = str(plain["kind"]), str(plain["text"])
    if kind == SpaceError.__name__:
        return SpaceError(str(target.parent), needed_bytes=0, free_bytes=0)
    return IntegrityError(encoding, wanted="an encoding", got=f"{text or kind} (exit code {code})")


def encode(encoding: str, source: Path, target: Path, *, base: Path | None = None) -> None:
    """Encode in this process, AUTO too; raise what `runtime.bundle.encodings.encode` does."""
    if encoding != AUTO:
        encodings.encode(encoding, source, target, base=base)
        return
    from runtime.bundle.delta import make  # noqa: PLC0415 - imports numpy, which the parent has not

    make.make(source, target, old=base)


def main(arguments: list[str]) -> int:
    """Encode; return the exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("encoding")
    parser.add_argument("paths", nargs="+", type=Path)
    told = parser.parse_args(arguments)
    source, target, *base = told.paths
    try:
        encode(told.encoding, source, target, base=base[0] if base else None)
    except (PackhorseError, OSError, MemoryError) as error:
        words = {"kind": type(error).__name__, "text": str(error)}
        sys.stderr.write(json.dumps(words) + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
