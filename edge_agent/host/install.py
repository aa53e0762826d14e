"""`packhorse-agent install` and `uninstall`: a service of systemd, with a user of its own.

Below another root than / only files are written, for images that are being built.
"""

import contextlib
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from edge_agent.errors import HostError
from edge_agent.host import checks, unit
from edge_agent.host.unit import Wish
from runtime import files

ROOT = Path("/")
UNIT = Path("etc/systemd/system") / f"{unit.NAME}.service"
SYSUSERS = Path("etc/sysusers.d") / f"{unit.NAME}.conf"
PROGRAM_S = 120.0


def this_command() -> tuple[str, ...]:
    """Return how this very agent is run, by absolute paths."""
    script = Path(sys.executable).with_name("packhorse-agent")
    if script.exists():
        return (str(script), "run")
    return (sys.executable, "-m", "edge_agent", "run")


def install(wish: Wish, *, root: Path = ROOT, start: bool = True) -> list[str]:
    """Write the unit, make the user, and start the service; return what was done.

    Doing it again changes only what is not so yet. Raises InvalidError, HostError, OSError.
    """
    text, users = unit.render(wish), unit.sysusers(wish)
    done = [
        f"{'wrote' if _write(root / path, content) else 'kept'} {root / path}"
        for path, content in ((SYSUSERS, users), (UNIT, text))
    ]
    if root != ROOT:
        return [*done, f"below {root} nothing is started: systemd makes the user at boot"]
    done.append(_make_user(wish))
    files.make_directory(wish.data, mode=0o750)
    shutil.chown(wish.data, wish.user, wish.user)
    _give(wish)
    _run("systemctl", "daemon-reload")
    if not start:
        return [*done, f"start it with `systemctl enable --now {unit.NAME}`"]
    _run("systemctl", "enable", unit.NAME)
    try:
        _run("systemctl", "restart", unit.NAME)
    except HostError as error:
        raise HostError(f"{unit.NAME} does not start: {_last_words() or error}") from error
    return [*done, f"{unit.NAME} is enabled and at work: see `journalctl -u {unit.NAME}`"]


def uninstall(*, root: Path = ROOT) -> list[str]:
    """Stop the service and remove what `install` wrote; data and user stay."""
    done: list[str] = []
    if root == ROOT:
        checks.require_root("uninstall")
    if root == ROOT and (root / UNIT).exists():
        _run("systemctl", "disable", "--now", unit.NAME)
        done.append(f"stopped {unit.NAME}")
    for path in (root / UNIT, root / SYSUSERS):
        if path.exists():
            files.remove(path)
            done.append(f"removed {path}")
    if root == ROOT and done:
        _run("systemctl", "daemon-reload")
    return done or ["nothing is installed here"]


def _write(path: Path, text: str) -> bool:
    """Write a file if it is not so yet; say whether it was written."""
    data = text.encode()
    if path.exists() and path.read_bytes() == data:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_atomic(path, data, mode=0o644)
    return True


def _make_user(wish: Wish) -> str:
    if shutil.which("systemd-sysusers"):
        _run("systemd-sysusers", str(ROOT / SYSUSERS))
    elif not _is_there(wish.user):
        home = ("--home-dir", str(wish.data), "--no-create-home")
        _run(
            "useradd", "--system", "--user-group", "--shell", "/usr/sbin/nologin", *home, wish.user
        )
    if not _is_there(wish.user):
        raise HostError(f"user {wish.user} was not made: make it with useradd --system, try again")
    return f"user {wish.user} is there"


def _is_there(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _give(wish: Wish) -> None:
    """Give what it may write to the user: root may have enrolled this device."""
    for top in (wish.data, *wish.writable):
        for path in (top, *top.rglob("*")):
            if not path.is_symlink():
                shutil.chown(path, wish.user, wish.user)


def _last_words() -> str:
    """Return what the service said last, on one line."""
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        done = subprocess.run(
            ["journalctl", "--unit", unit.NAME, "--lines", "5", "--output", "cat", "--no-pager"],
            capture_output=True, text=True, timeout=PROGRAM_S, check=False,
        )  # fmt: skip
        return " / ".join(line for line in done.stdout.splitlines() if line.strip())
    return ""


def _run(*argv: str) -> None:
    """Run a program of the system; raise HostError with its own words if it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=PROGRAM_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(
            f"{argv[0]}: {error}: is this a system with systemd, and are you root?"
        ) from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise HostError(f"{' '.join(argv)} failed: {said or done.returncode}")
