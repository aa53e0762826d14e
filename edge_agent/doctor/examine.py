"""`packhorse-agent doctor`: looks at everything that an agent needs, and says what to do.

It needs no registry, no network, no enrolment and no agent at work: what is missing is a finding.
"""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from edge_agent import settings
from edge_agent.doctor import findings, machine, reach
from edge_agent.doctor.findings import Finding, Report, broken, ok
from edge_agent.settings import AgentSettings
from runtime.errors import InvalidError

ROOT = Path("/")


def examine(
    data: Path,
    *,
    root: Path = ROOT,
    environment: Mapping[str, str] | None = None,
    now: float | None = None,
) -> Report:
    """Return what there is to say of the device whose agent's directory is `data`."""
    known = os.environ if environment is None else environment
    at = time.time() if now is None else now
    found = [
        machine.python(),
        machine.memory(root),
        machine.time_of_day(at),
        machine.inference(root),
    ]
    if _closed(data):
        do = "run the doctor with sudo, or as the agent's own user"
        said = f"{data} cannot be read by user {os.geteuid()}"
        return findings.report([*found, machine.containers(root, known), broken("data", said, do)])
    configured, finding = _settings(data, known)
    found += [
        machine.containers(root, known, configured.engine_url),
        finding,
        *machine.disk(data, configured.reserve_mb),
    ]
    return findings.report([*found, *machine.service(data, root), *reach.look(data, at)])


def _closed(data: Path) -> bool:
    """Say whether there is a directory that this user may not look into."""
    try:
        there = data.exists()
    except PermissionError:
        return True
    return there and not os.access(data, os.R_OK | os.X_OK, effective_ids=True)


def _settings(data: Path, environment: Mapping[str, str]) -> tuple[AgentSettings, Finding]:
    path = data / "agent.toml"
    try:
        chosen = settings.load(path, environment)
    except (InvalidError, OSError) as error:
        do = f"mend {path} or the variable; the agent does not start with it"
        return AgentSettings(), broken("settings", str(error), do)
    where = f"{path}" if path.exists() else "defaults"
    return chosen, ok("settings", where)
