"""What the doctor sees of the machine: Python, disk, memory, clock, engines, providers, service."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from edge_agent import facts, status
from edge_agent.containers import door
from edge_agent.doctor.findings import Finding, broken, ok, warning
from edge_agent.errors import NotRunningError
from edge_agent.workers.memory import MIB
from runtime import clock, files
from runtime.containers.errors import EngineError
from runtime.errors import InvalidError

PYTHONS = ((3, 10), (3, 13))
LEAST_MEMORY_MB, LEAST_FREE_MB = 400, 64
ENGINE_S = 3.0
ENGINE_FIX = "start the engine, or add the agent's user to its group (install --group docker)"
UNIT = "packhorse-agent.service"
UNITS = ("etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")


def python(version: tuple[int, int] = sys.version_info[:2]) -> Finding:
    """Say whether this Python is one that the agent is tested with."""
    first, last = (".".join(map(str, each)) for each in PYTHONS)
    text = f"Python {'.'.join(map(str, version))}, agent {facts.agent_version()}"
    if PYTHONS[0] <= version <= PYTHONS[1]:
        return ok("python", text)
    return warning("python", text, f"use one from {first} to {last}: others are not tested")


def time_of_day(now: float) -> Finding:
    """Say whether the clock can be right at all."""
    shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now))
    if clock.plausible(now):
        return ok("clock", f"reads {shown}")
    do = "enable NTP (timedatectl set-ntp true), or fit a clock; inference goes on meanwhile"
    return warning("clock", f"reads {shown}, which cannot be", do)


def disk(data: Path, reserve_mb: int) -> list[Finding]:
    """Say whether the agent's directory can be written, and how much room there is."""
    place = next(path for path in (data, *data.absolute().parents) if path.exists())
    if os.statvfs(place).f_flag & os.ST_RDONLY:
        do = "remount it writable; a file system that turned read-only by itself is a dying disk"
        return [broken("disk", f"{place} is mounted read-only", do)]
    if not os.access(place, os.W_OK):
        do = f"run as the agent's own user, or give {data} to that user"
        return [broken("disk", f"{place} cannot be written by user {os.geteuid()}", do)]
    free_mb = files.free_bytes(place) / MIB
    text = f"{free_mb:.0f} MiB free below {place}, {reserve_mb} MiB are kept free"
    if free_mb >= reserve_mb * 2:
        return [ok("disk", text)]
    do = "make room; the agent infers on, and downloads again once there is some"
    return [(broken if free_mb < reserve_mb else warning)("disk", text, do)]


def memory(root: Path) -> Finding:
    """Say how much memory there is."""
    values: dict[str, int] = {}
    with contextlib.suppress(OSError):
        for line in (root / "proc/meminfo").read_text("ascii", "replace").splitlines():
            name, _colon, rest = line.partition(":")
            if rest.split()[:1] and rest.split()[0].isdecimal():
                values[name] = int(rest.split()[0]) * 1024 // MIB
    if not {"MemTotal", "MemAvailable"} <= set(values):
        return warning("memory", "the kernel does not say how much there is", "mount /proc")
    total, free = values["MemTotal"], values["MemAvailable"]
    text = f"{free} of {total} MiB available"
    if total < LEAST_MEMORY_MB or free < LEAST_FREE_MB:
        do = "end other programs, or use smaller models (`packhorse models profile`)"
        return warning("memory", text, do)
    return ok("memory", text)


def containers(root: Path, environment: Mapping[str, str], url: str = "") -> Finding:
    """Say whether the engine answers that the agent would use; `url` is its setting."""
    try:
        place = url or door.default_url(environment, root=root)
        if not url and not Path(place.removeprefix("unix://")).exists():
            return ok("containers", "no engine here; only container modules need one")
        return ok("containers", f"{_engine(place)} at {place}")
    except (EngineError, InvalidError) as error:
        if url:
            do = "start that engine, or name another: engine_url in agent.toml"
            return broken("containers", f"engine_url: {error}", do)
        return warning("containers", str(error), ENGINE_FIX)
    except PermissionError as error:
        refused = f"{error.filename} may not be looked at by user {os.geteuid()}"
        return warning("containers", refused, ENGINE_FIX)


def _engine(url: str) -> str:
    """Return the name and version of an engine; raise EngineError if it does not say."""
    from runtime.containers.engine import Engine  # noqa: PLC0415 - where there is one
    from runtime.containers.specs import Address  # noqa: PLC0415 - as above

    with contextlib.closing(Engine(Address(url, timeout_s=ENGINE_S))) as engine:
        return engine.version()


def inference(root: Path) -> Finding:
    """Say what models can run on."""
    providers, found = facts.providers(), facts.accelerator(root)
    text = f"onnxruntime with {', '.join(providers)}; accelerator: {found}"
    try:
        import importlib.util  # noqa: PLC0415 - the doctor alone needs it

        there = importlib.util.find_spec("onnxruntime") is not None
    except (ImportError, ValueError):
        there = False
    if not there:
        do = "pip install 'packhorse[edge]' into the agent's environment"
        return broken("inference", "onnxruntime is not installed", do)
    if found in {"jetson", "nvidia"} and len(providers) == 1:
        do = "install the onnxruntime that is built for this GPU; until then the CPU works"
        return warning("inference", text, do)
    return ok("inference", text)


def service(data: Path, root: Path) -> list[Finding]:
    """Say whether an agent is at work, and whether it would be after a restart of the device."""
    found: list[Finding] = []
    try:
        told = status.ask(data / "run")
        link = "connected" if told.connected else f"not connected: {told.link}"
        found.append(ok("agent", f"process {told.pid} is at work, {link}"))
        found += [
            warning("agent", text, "see the text; `packhorse-agent status` shows all of it")
            for text in told.reported.troubles
        ]
    except (NotRunningError, InvalidError):
        do = f"start it: `packhorse-agent run --data {data}`, or as a service"
        found.append(warning("agent", f"no agent is at work on {data}", do))
    if not any((root / place / UNIT).exists() for place in UNITS):
        do = "`packhorse-agent install` writes one, so that the agent runs after each boot"
        return [*found, warning("service", "there is no systemd unit", do)]
    return [*found, _unit(root)]


def _unit(root: Path) -> Finding:
    if root != Path("/"):
        return ok("service", f"{UNIT} is there")
    try:
        done = subprocess.run(
            ["systemctl", "is-enabled", UNIT],
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return warning("service", f"{UNIT} is there, but no systemd", "start the agent otherwise")
    state = done.stdout.strip() or done.stderr.strip() or "unknown"
    if state == "enabled":
        return ok("service", f"{UNIT} is enabled")
    return warning("service", f"{UNIT} is {state}", f"systemctl enable --now {UNIT}")
