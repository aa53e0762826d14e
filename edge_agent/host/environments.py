"""Makes the virtual environment of a slot: like the other one, with another version of the agent.

What does not change between two versions, nearly all of it, is shared by hard links: so an update
takes seconds, needs no index for packages that are there already, and costs the flash little. Pip
never writes into a file that is there: it puts a new one in its place, and the other slot keeps its
own. Without another slot, or when asked for, everything is made and fetched anew.
"""

import csv
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edge_agent.errors import HostError
from runtime import files
from runtime.errors import InvalidError

DISTRIBUTION = "packhorse"
MAKE_S, INSTALL_S = 300.0, 3600.0
REMEMBERED = "state/source.json"
MAX_SCRIPT_BYTES = 256 * 1024


@dataclass(frozen=True)
class Source:
    """What to install, and from where."""

    wanted: str
    """A wheel, or a version of the distribution."""
    options: tuple[str, ...] = ()
    """Of pip: --index-url, --no-index, --find-links, --no-deps."""
    system_site_packages: bool = False
    """The environment sees what the system's Python has: NVIDIA's onnxruntime, for instance."""
    fresh: bool = False
    """Share nothing with the other slot."""

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


class _Remembered(msgspec.Struct, frozen=True):
    options: tuple[str, ...] = ()
    system_site_packages: bool = False


def remember(directory: Path, source: Source) -> None:
    """Keep where this one comes from: updates from afar name a version and nothing else."""
    path = directory / REMEMBERED
    path.parent.mkdir(exist_ok=True)
    known = _Remembered(source.options, source.system_site_packages)
    files.write_atomic(path, msgspec.json.encode(known), mode=0o644)


def recalled(directory: Path, source: Source) -> Source:
    """Return a source with what was remembered, as far as it does not say otherwise itself."""
    try:
        known = msgspec.json.decode((directory / REMEMBERED).read_bytes(), type=_Remembered)
    except (OSError, msgspec.DecodeError):
        return source
    return Source(
        source.wanted,
        source.options or known.options,
        source.system_site_packages or known.system_site_packages,
        source.fresh,
    )


def fill(place: Path, source: Source, other: Path) -> None:
    """Make an environment anew: what was in it is gone first. Raises HostError, OSError."""
    shutil.rmtree(place, ignore_errors=True)
    pip = [str(place / "bin" / "python"), "-m", "pip"]
    if (other / "bin" / "python").exists() and not source.fresh:
        _share(other, place)
    else:
        site = ("--system-site-packages",) if source.system_site_packages else ()
        run([system_python(), "-m", "venv", *site, str(place)], MAKE_S)
    quiet = ("--quiet", "--disable-pip-version-check", "--root-user-action=ignore")
    install = ["install", "--no-input", *quiet, *source.options]
    run([*pip, *install, source.requirement()], INSTALL_S)
    # All of it shall be on the disk before anything says that it may be started.
    os.sync()


def system_python() -> str:
    """Return the Python that environments are made of: no update touches it."""
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return str(Path(sys.base_prefix) / "bin" / version)


def _share(old: Path, new: Path) -> None:
    """Have a second environment without the agent; files that name their place are its own."""
    ours = _ours(old)

    def agent(directory: str, names: list[str]) -> set[str]:
        return {name for name in names if Path(directory, name) in ours}

    shutil.copytree(old, new, symlinks=True, copy_function=_link, ignore=agent)
    for path in (new / "pyvenv.cfg", *(new / "bin").iterdir()):
        if path.is_symlink() or path.stat().st_size > MAX_SCRIPT_BYTES:
            continue
        data = path.read_bytes()
        moved = data.replace(os.fsencode(f"{old}"), os.fsencode(f"{new}"))
        if moved != data:
            files.write_atomic(path, moved, mode=path.stat().st_mode & 0o777)


def _ours(environment: Path) -> set[Path]:
    """Return the files and packages that the agent's distribution has put somewhere."""
    found: set[Path] = set()
    for record in environment.glob(f"lib/python*/site-packages/{DISTRIBUTION}-*.dist-info/RECORD"):
        site = record.parent.parent
        with record.open(newline="") as file:
            for path in (Path(row[0]) for row in csv.reader(file) if row):
                inside = ".." not in path.parts
                found.add(Path(os.path.normpath(site / (path.parts[0] if inside else path))))
    return found


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # the kernel may forbid it for files of another user
        shutil.copy2(source, target)


def run(argv: Sequence[str], timeout_s: float) -> str:
    """Return what a program printed; raise HostError with its last words if it fails."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    try:
        done = subprocess.run(
            list(argv), capture_output=True, text=True, timeout=timeout_s, check=False,
            env=environment, cwd="/", umask=0o022,  # people shall be able to run it too
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"{argv[0]}: {error}") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise HostError(f"{' '.join(argv[:4])} failed: {' / '.join(said[-3:]) or done.returncode}")
    return done.stdout
