"""Starts worker processes and speaks to them by slot. All methods are the owner thread's.

A worker dies with the thread that started it (runtime.children), so it must be a thread that lives
as long as the agent does.
"""

import logging
import math
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from edge_agent.bundles import engines
from edge_agent.mind import effects, events, trialnames
from edge_agent.worker import protocol
from edge_agent.workers.captured import CappedLog
from edge_agent.workers.listeners import Listeners
from edge_agent.workers.minder import Hooks, Minder
from runtime import children, files
from runtime.bundle.index import Check, Index
from runtime.errors import InvalidError
from runtime.messages import ModuleSpec

log = logging.getLogger(__name__)

STOP_S = 10.0
"""How long a worker may drain."""


class WorkerSupervisor:
    """All worker processes of the agent."""

    def __init__(
        self,
        data: Path,
        *,
        listeners: Listeners,
        source_roots: tuple[str, ...],
        allow: tuple[str, ...],
        facts: Mapping[str, str],
        hooks: Hooks,
    ) -> None:
        """Keep spools and logs below `data`; tell `hooks` what happens."""
        self._data, self._listeners = data, listeners
        self._source_roots, self._allow, self._hooks = source_roots, allow, hooks
        self._facts = dict(facts)
        self._minders: dict[int, Minder] = {}
        self._logs: dict[str, CappedLog] = {}

    def start(self, slot: int, spec: ModuleSpec, directory: Path, index: Index) -> None:
        """Start a worker; a start that fails is told like one that ended (WorkerExited)."""
        try:
            listeners = self._listeners.open(spec.name)
            self._minders[slot] = self._spawn(slot, spec, index, listeners)
        except (OSError, InvalidError) as error:
            text = f"the worker could not be started: {error}"
            log.exception("worker not started", extra={"module_name": spec.name, "slot": slot})
            self._hooks.put(events.WorkerExited(spec.name, slot, text))
            return
        log.info("worker started", extra={"module_name": spec.name, "slot": slot})
        self.send(
            slot,
            protocol.Start(
                module=spec.name,
                bundle=spec.bundle,
                model=spec.model,
                version=spec.version,
                bundle_directory=str(directory),
                spool_directory=str(files.make_directory(self.spool(spec.name))),
                sources=index.sources if spec.sources is None else spec.sources,
                source_roots=self._source_roots,
                capture=spec.capture,
                listener_fds=tuple(listener.fileno() for listener in listeners),
                allow=self._allow,
                facts=self._facts,
                engines_directory=str(self._data / engines.DIRECTORY),
                candidate=spec.candidate if trialnames.is_trial(spec.name) else None,
            ),
        )

    def send(self, slot: int, message: protocol.ToWorker) -> None:
        """Tell a worker something; one that has ended does not hear it."""
        self._bury()
        if (minder := self._minders.get(slot)) is not None:
            minder.send(message)

    def module_of(self, slot: int) -> str:
        """Return whose worker is in a slot; "": it has ended."""
        minder = self._minders.get(slot)
        return "" if minder is None else minder.module

    def stop(self, slot: int, *, kill: bool = False) -> None:
        """Have a worker end."""
        if (minder := self._minders.get(slot)) is not None:
            minder.stop(grace_s=STOP_S, kill=kill)

    def stop_all(self, timeout_s: float) -> None:
        """Have all workers drain and end; kill those that have not within `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        for minder in self._minders.values():
            minder.stop(grace_s=timeout_s)
        for minder in self._minders.values():
            if not minder.join(max(0.0, deadline - time.monotonic())):
                minder.kill()
                minder.join(timeout_s)
        self._minders.clear()

    def mirror(self, slot: int, effect: effects.Mirror, check: Check) -> None:
        """Have a worker give inputs to its module's candidate, by the tolerances of a check."""
        path = self._listeners.path(trialnames.of(effect.module))
        order = protocol.Mirror(str(path), effect.candidate, check.rtol, check.atol, effect.counts)
        self.send(slot, order)

    def close(self, module: str) -> None:
        """Let go of a module that has no worker any more."""
        self._listeners.close(module)
        self._logs.pop(module, None)

    def spool(self, module: str) -> Path:
        """Return where a module's workers leave their records."""
        return self._data / "spool" / module

    def _spawn(
        self, slot: int, spec: ModuleSpec, index: Index, listeners: tuple[socket.socket, ...]
    ) -> Minder:
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                child = children.spawn(
                    [
                        sys.executable,
                        "-m",
                        "edge_agent.worker",
                        "--control-fd",
                        str(theirs.fileno()),
                    ],
                    pass_fds=(theirs.fileno(), *(listener.fileno() for listener in listeners)),
                    env=_environment(index),
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        memory_mb, limit = _memory(spec, index)
        return Minder(
            child,
            ours,
            module=spec.name,
            slot=slot,
            memory_mb=memory_mb,
            memory_limit=limit,
            printed=self._log(spec.name),
            hooks=self._hooks,
        )

    def _log(self, module: str) -> CappedLog:
        if module not in self._logs:
            self._logs[module] = CappedLog(self._data / "logs" / f"{module}.log")
        return self._logs[module]

    def _bury(self) -> None:
        """Forget minders whose worker has ended."""
        ended = [slot for slot, minder in self._minders.items() if minder.join(0.0)]
        for slot in ended:
            del self._minders[slot]


def _memory(spec: ModuleSpec, index: Index) -> tuple[int | None, str]:
    """Return what a worker may use, MiB, and what says so: the lower of two limits."""
    own = index.resources.memory_mb
    if spec.candidate is not None and trialnames.is_trial(spec.name):
        budget = spec.candidate.memory_mb
        if budget is not None and (own is None or budget < own):
            return budget, "candidate.memory_mb"
    return own, "resources.memory_mb"


def _environment(index: Index) -> dict[str, str]:
    """Return a worker's variables: libraries beside onnxruntime take as many cores as it does."""
    threads = str(max(1, math.ceil(index.resources.cpu or 1)))
    return {"OMP_NUM_THREADS": threads, **os.environ, "PYTHONUNBUFFERED": "1"}
