"""`packhorse-agent apply`: a version out of a file, run on this device without a registry.

    file ─► which version, as which module ─► its missing blobs into the store ─► HandApplied
                                                                                   │
                    the mind: fetching (nothing is missing) ─► verifying ─► … ─► running

An agent at work is handed the open file through its control socket and does all of this itself.
Where none runs, this process takes the agent's place, and the next start goes on from the journal.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from edge_agent import control, facts, handing
from edge_agent.bundles.releases import Releases
from edge_agent.control import Answer, Wish
from edge_agent.errors import ControlError, NotRunningError
from edge_agent.journal import Journal
from edge_agent.mind import states
from runtime import datalock
from runtime.bundle.archive import Archive
from runtime.errors import InvalidError


def apply(data: Path, file: Path, *, module: str | None, version: str | None) -> Answer:
    """Have a version of the file wanted on this device from now on; return which.

    `version` is MODEL or MODEL:NUMBER, needed where the file holds several; `module` is called
    like the model if it is not given. Raises InvalidError for a file or a choice that is wrong,
    ControlError if the agent refuses, SpaceError, IntegrityError.
    """
    if not data.is_dir():
        raise InvalidError("data", str(data), "name the directory of an agent")
    wish = Wish(module=module, version=version)
    with _open(file) as stream:
        _become_owner(data)  # before a byte is read: nobody vouches for the file
        archive = Archive(stream)
        handing.choose(archive.manifest, wish)
        with contextlib.suppress(NotRunningError):
            return control.ask(data / "run", wish, stream.fileno())
        with datalock.held(data, mode=0o750):
            return _in_place_of_the_agent(data, archive, wish)


def _in_place_of_the_agent(data: Path, archive: Archive, wish: Wish) -> Answer:
    applied = handing.choose(archive.manifest, wish)
    journal = Journal(data)
    saved, trouble = journal.read()
    if trouble:
        raise ControlError(f"{trouble}: start the agent first")
    state = states.resume(saved, states.Limits())
    handing.require_room_for(state, applied)
    handing.bring(archive, applied, Releases(data, facts.collect()), reserve_bytes=0)
    state, _ = states.step(state, applied, time.time())
    journal.write(states.to_save(state))
    return Answer(applied=applied, running=False)


@contextlib.contextmanager
def _open(file: Path) -> Iterator[BinaryIO]:
    try:
        stream = file.open("rb")
    except OSError as error:
        raise InvalidError("file", str(file), f"{error.strerror}") from error
    with stream:
        yield stream


def _become_owner(data: Path) -> None:
    """Leave root's rights, so that the agent can read and replace what is written here."""
    owner = data.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.setgroups([])
        os.setgid(owner.st_gid)
        os.setuid(owner.st_uid)
