"""Puts another version of the agent into the slot that is not in use, and switches to it.

    make the environment ─► install ─► self-test ─► slots.json: on trial ─► restart
            any failure before the last two: the agent at work was not touched

What the new slot must do then is in edge_agent.host.slots; a power cut anywhere leaves the old one.
"""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import HostError
from edge_agent.host import slots
from runtime import files
from runtime.errors import InvalidError

DISTRIBUTION = "packhorse"
MAKE_S, INSTALL_S, TEST_S = 300.0, 3600.0, 120.0
TEST = (
    "import json, sys, edge_agent.agent, edge_agent.worker.protocol, runtime.link; "
    "from edge_agent import facts; print(json.dumps(facts.agent_version()))"
)
"""What the new slot must be able to do: load all of the supervisor, and say what it is."""


@dataclass(frozen=True)
class Source:
    """What to install."""

    wanted: str
    """A wheel, or a version of the distribution."""
    options: tuple[str, ...] = ()
    """Of pip: --index-url, --no-index, --find-links, --no-deps."""
    system_site_packages: bool = False
    """The environment sees what the system's Python has: NVIDIA's onnxruntime, for instance."""

    def requirement(self) -> str:
        """Return what pip is asked for; raise InvalidError for what is neither."""
        if self.wanted.endswith(".whl"):
            path = Path(self.wanted).absolute()
            if not path.is_file():
                raise InvalidError("wheel", self.wanted, "name a file that exists")
            return f"{DISTRIBUTION}[edge] @ {path.as_uri()}"
        if not all(char.isalnum() or char in ".!+_-" for char in self.wanted) or not self.wanted:
            raise InvalidError("version", self.wanted, "write a version such as 1.4.0")
        return f"{DISTRIBUTION}[edge]=={self.wanted}"


def directory_of(data: Path) -> Path:
    """Return where the slots of an agent are: beside its data, not in it."""
    return data.absolute().parent / f"{data.absolute().name}-slots"


def begin(directory: Path, source: Source) -> str:
    """Make the idle slot ready and put it on trial; return the version that is in it.

    The agent must be restarted then, by the launcher. Raises InvalidError, HostError, OSError.
    """
    requirement = source.requirement()
    with _alone(directory):
        if not (directory / slots.STATE).exists():
            fix = "run `packhorse-agent install --slots VERSION` once"
            raise HostError(f"{directory} has no slots: {fix}")
        state = slots.read(directory)
        if state.trial:
            raise HostError(f"slot {state.active} is on trial: wait until it has proved itself")
        idle = slots.other(state.active)
        _fill(directory, idle, requirement, source)
        version = _test(directory, idle)
        _refresh_launcher(directory)
        # From here on the next start is the new one's.
        slots.write(directory, slots.begun(state))
    return version


def first(directory: Path, source: Source) -> str:
    """Fill slot a, which nothing has proved yet but nothing came before; return its version."""
    requirement = source.requirement()
    with _alone(directory):
        state = slots.read(directory)
        if (directory / slots.STATE).exists():
            return _test(directory, state.active)
        _fill(directory, state.active, requirement, source)
        version = _test(directory, state.active)
        _refresh_launcher(directory)
        slots.write(directory, state)
    return version


def command(directory: Path) -> tuple[str, ...]:
    """Return how the agent is run by the launcher, by absolute paths."""
    return (_system_python(), "-I", str(directory / "launcher.py"), str(directory), "run")


def _system_python() -> str:
    """Return the Python that environments are made of: no update touches it."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return str(Path(sys.base_prefix) / "bin" / version)


def _fill(directory: Path, slot: str, requirement: str, source: Source) -> None:
    """Make a slot's environment anew: what was in it is gone first."""
    place = directory / slot
    shutil.rmtree(place, ignore_errors=True)
    site = ("--system-site-packages",) if source.system_site_packages else ()
    _run([_system_python(), "-m", "venv", *site, str(place)], MAKE_S)
    pip = [str(slots.python(directory, slot)), "-m", "pip", "install", "--no-input", "--quiet"]
    _run([*pip, "--disable-pip-version-check", *source.options, requirement], INSTALL_S)
    # All of it shall be on the disk before anything says that it may be started.
    os.sync()


def _test(directory: Path, slot: str) -> str:
    """Return the version in a slot; raise HostError if it cannot even be loaded."""
    said = _run([str(slots.python(directory, slot)), "-c", TEST], TEST_S)
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


def _run(argv: Sequence[str], timeout_s: float) -> str:
    """Return what a program printed; raise HostError with its last words if it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run(
            list(argv), capture_output=True, text=True, timeout=timeout_s, check=False,
            env=environment, cwd="/",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{argv[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise HostError(f"{' '.join(argv[:4])} failed: {' / '.join(said[-3:]) or done.returncode}")
    return done.stdout
