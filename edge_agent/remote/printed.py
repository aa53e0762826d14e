"""What workers have printed, from the files that edge_agent.workers.captured writes.

A cursor names a file by its inode and a place in it: when the file was set aside meanwhile, the
rest of that one is read first.
"""

import os
from pathlib import Path
from typing import NamedTuple

from edge_agent.remote.loglines import parse
from edge_agent.remote.ring import Line

MAX_READ_BYTES = 1 << 20
"""Of the end of each file, when there is no cursor."""


class _Part(NamedTuple):
    inode: str
    begin: int
    data: bytes
    known: bool
    """The cursor is in this file."""


def read(path: Path, after: str) -> tuple[list[Line], str]:
    """Return the lines behind a cursor, all if it is none of these files', and the next cursor.

    A file that is not there has no lines.
    """
    inode, _dash, place = after.partition("-")
    known = (inode, int(place)) if place.isdecimal() else None
    found: list[_Part] = []
    for each in (path.with_name(f"{path.name}.1"), path):
        if (part := _read(each, known)) is None:
            continue
        if part.known:
            found.clear()  # what lies in the older file was told
        found.append(part)
    data = b"".join(part.data for part in found)
    # A line that is being written is for the next time.
    whole = data[: data.rfind(b"\n") + 1]
    lines = parse(whole.decode("utf-8", "replace").splitlines())
    if not found:
        return lines, after
    last = found[-1]
    end = last.begin + max(0, len(last.data) - (len(data) - len(whole)))
    return lines, f"{last.inode}-{end}"


def _read(path: Path, known: tuple[str, int] | None) -> _Part | None:
    """Return the end of a file, from the known place on if it is that file."""
    try:
        with path.open("rb") as file:
            seen = os.fstat(file.fileno())
            inode, begin = str(seen.st_ino), max(0, seen.st_size - MAX_READ_BYTES)
            is_known = known is not None and known[0] == inode
            if known is not None and is_known:
                begin = max(begin, min(known[1], seen.st_size))
            file.seek(begin)
            return _Part(inode, begin, file.read(seen.st_size - begin), is_known)
    except FileNotFoundError:
        return None
