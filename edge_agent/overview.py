"""What `packhorse-agent status` shows: the agent's own word, or its journal if it does not run."""

import time
from pathlib import Path

import msgspec

from edge_agent import status
from edge_agent.errors import NotRunningError
from edge_agent.journal import Journal
from edge_agent.mind import modules
from edge_agent.mind.states import SavedState
from edge_agent.status import Status
from runtime.errors import InvalidError
from runtime.messages import ModuleReport, ModuleSpec
from runtime.wording import counted


def show(data: Path, *, as_json: bool) -> tuple[str, bool]:
    """Return the text, and whether an agent is running.

    Raises InvalidError if there is no agent's directory at `data`.
    """
    try:
        told = status.ask(data / "run")
    except NotRunningError:
        if not data.is_dir():
            raise InvalidError("data", str(data), "name the directory of an agent") from None
        saved, trouble = Journal(data).read()
        if as_json:
            value = {"running": False, "journal": saved, "trouble": trouble}
            return msgspec.json.encode(value).decode(), False
        return "\n".join(_asleep(saved, trouble)), False
    if as_json:
        return msgspec.json.encode({"running": True, "status": told}).decode(), True
    return "\n".join(_awake(told)), True


def _awake(told: Status) -> list[str]:
    reported = told.reported
    link = "connected" if told.connected else f"not connected: {told.link}"
    waiting = int(reported.vitals.get("outbox_records", 0))
    lines = [
        f"{reported.device}: running (process {told.pid}), {link}",
        f"desired state: generation {reported.generation}",
        f"telemetry: {counted(waiting, 'record waits', 'records wait')} for the registry",
    ]
    lines += [_module(module) for module in reported.modules] or ["modules: none"]
    lines += [
        f"dropped: {counted(count, 'record')} ({why})" for why, count in reported.drops.items()
    ]
    return lines + [f"trouble: {text}" for text in reported.troubles]


def _module(module: ModuleReport) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(module.since))
    running = module.running
    answers = f"{running.model}:{running.version}" if running else "nothing"
    line = (
        f"{module.name}: {module.phase.value} {module.model}:{module.version} since {since},"
        f" {answers} answers"
    )
    if module.progress is not None and module.progress.total_bytes:
        line += f", {100 * module.progress.done_bytes // module.progress.total_bytes} %"
    if module.reason:
        line += f"\n    {module.reason}" + (" (tried again)" if module.retrying else "")
    return line


def _asleep(saved: SavedState, trouble: str) -> list[str]:
    generation = saved.desired.generation if saved.desired else 0
    lines = [f"no agent is running here; its journal is at generation {generation}"]
    for module in saved.modules:
        refused = modules.restored(module)
        lines.append(
            f"{module.name}: wants {_version(module.wanted)}, ran {_version(module.running)}"
        )
        if module.wanted and (blame := modules.refusal(refused, module.wanted)) is not None:
            lines.append(f"    refused: {blame.reason}")
    return lines + ([f"trouble: {trouble}"] if trouble else [])


def _version(spec: ModuleSpec | None) -> str:
    return "nothing" if spec is None else f"{spec.model}:{spec.version}"
