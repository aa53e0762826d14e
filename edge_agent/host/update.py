"""Puts another version of the agent into the slot that is not in use, and switches to it.

    make the environment ─► install ─► self-test ─► slots.json: on trial ─► restart
            any failure before the last two: the agent at work was not touched

What the new slot must do then is in edge_agent.host.slots; a power cut anywhere leaves the old one.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path

from edge_agent.errors import HostError
from edge_agent.host import environments, slots
from edge_agent.host.environments import Source
from runtime import files

TEST_S = 120.0
TEST = (
    "import json, sys, edge_agent.agent, edge_agent.worker.protocol, runtime.link; "
    "from edge_agent import facts; print(json.dumps(facts.agent_version()))"
)
"""What the new slot must be able to do: load all of the supervisor, and say what it is."""


def directory_of(data: Path) -> Path:
    """Return where the slots of an agent are: beside its data, not in it."""
    return data.absolute().parent / f"{data.absolute().name}-slots"


def begin(directory: Path, source: Source, *, linked: bool = False) -> str:
    """Make the idle slot ready and put it on trial; return the version that is in it.

    `linked` says that the agent at work reaches the registry: then the new one must too. The agent
    must be restarted then, by the launcher. Raises InvalidError, HostError, OSError.
    """
    source.requirement()
    with _alone(directory):
        if not (directory / slots.STATE).exists():
            fix = "run `packhorse-agent install --slots VERSION` once"
            raise HostError(f"{directory} has no slots: {fix}")
        state = slots.read(directory)
        if state.trial:
            raise HostError(f"slot {state.active} is on trial: wait until it has proved itself")
        idle = slots.other(state.active)
        source = environments.recalled(directory, source)
        environments.fill(directory / idle, source, directory / state.active)
        version = _test(directory, idle)
        _refresh_launcher(directory)
        environments.remember(directory, source)
        # From here on the next start is the new one's.
        slots.write(directory, slots.begun(state, linked=linked))
    return version


def first(directory: Path, source: Source) -> str:
    """Fill slot a, which nothing has proved yet but nothing came before; return its version."""
    source.requirement()
    with _alone(directory):
        state = slots.read(directory)
        if (directory / slots.STATE).exists():
            return _test(directory, state.active)
        environments.fill(directory / state.active, source, directory / slots.other(state.active))
        version = _test(directory, state.active)
        _refresh_launcher(directory)
        environments.remember(directory, source)
        slots.write(directory, state)
    return version


def command(directory: Path) -> tuple[str, ...]:
    """Return how the agent is run by the launcher, by absolute paths."""
    return (
        environments.system_python(),
        "-I",
        str(directory / "launcher.py"),
        str(directory),
        "run",
    )


def _test(directory: Path, slot: str) -> str:
    """Return the version in a slot; raise HostError if it cannot even be loaded."""
    said = environments.run([str(slots.python(directory, slot)), "-c", TEST], TEST_S)
    try:
        return str(json.loads(said.splitlines()[-1]))
    except (ValueError, IndexError) as error:
        raise HostError(f"slot {slot} does not say what it is: {said[:200]!r}") from error


def _refresh_launcher(directory: Path) -> None:
    files.write_atomic(directory / "launcher.py", Path(slots.__file__).read_bytes(), mode=0o644)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the slots while the block runs; raise HostError if somebody else updates."""
    files.make_directory(directory, mode=0o755)
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise HostError("another update is under way here: wait for it") from error
        yield
    finally:
        os.close(handle)
