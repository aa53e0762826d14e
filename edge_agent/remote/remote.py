"""All that the registry may have this device do at once, wired; what does it is loaded when asked.

The supervisor stays small: an operation's own modules are imported in its thread.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_agent.account import Account, Place
from edge_agent.assembly import Parts
from edge_agent.host import slots
from edge_agent.mind.events import Event, News
from edge_agent.remote.desk import Asked, Desk, Operation, Outcome
from edge_agent.remote.restarting import Restarting
from edge_agent.remote.ring import Ring
from edge_agent.settings import AgentSettings
from edge_agent.telemetry.path import TelemetryPath
from edge_agent.uplink import Uplink
from runtime import operations
from runtime.clock import Clock


@dataclass(frozen=True)
class Remote:
    """The desk, and who knows whether the agent shall begin again."""

    desk: Desk
    restarting: Restarting

    @classmethod
    def open(
        cls,
        place: Place,
        settings: AgentSettings,
        uplink: Uplink,
        parts: Parts,
        *,
        put: Callable[[Event | News], None],
        clock: Clock,
    ) -> "Remote":
        """Return the desk of one device; nothing is started."""
        account, telemetry = parts.account, parts.telemetry
        ring = Ring()
        restarting = Restarting(lambda: account.state, put)
        started = os.environ.get(slots.PLACE)
        directory = Path(started) if started else None
        refresh = parts.workers.copy_logs
        sight = Sight(place, settings, account, telemetry, ring, clock, refresh, directory)
        table: dict[str, Operation] = {
            operations.LOGS: sight.logs,
            operations.SUPPORT: sight.support,
            operations.INFER: sight.infer,
            operations.EXEC: sight.execute,
            operations.LOGIN: sight.log_in,
            operations.RESTART: restarting,
            operations.UPDATE: lambda asked: sight.update(asked, restarting.agent),
        }
        wanted: tuple[str, ...] = settings.remote_operations
        allowed = {kind: do for kind, do in table.items() if kind in wanted}
        return cls(Desk(allowed, uplink.answer, ring), restarting)


@dataclass(frozen=True)
class Sight:
    """What operations look at."""

    place: Place
    settings: AgentSettings
    account: Account
    telemetry: TelemetryPath
    ring: Ring
    clock: Clock
    refresh: Callable[[str], None]
    """Brings the log of a module up to date that does not write it itself."""
    slots: Path | None = None
    """Where the launcher keeps versions of the agent; None: it has not started this one."""

    def logs(self, asked: Asked) -> Outcome:
        """Return log lines."""
        from edge_agent.remote.reading import Logs  # noqa: PLC0415 - see the module's docstring

        return Logs(self.ring, self.place.data / "logs", self.clock, self.refresh)(asked)

    def infer(self, asked: Asked) -> Outcome:
        """Return a module's last record."""
        from edge_agent.remote.reading import Inference  # noqa: PLC0415 - as above

        return Inference(self.telemetry.newest)(asked)

    def execute(self, asked: Asked) -> Outcome:
        """Run one of the device's own commands."""
        from edge_agent.remote.commanded import Commands  # noqa: PLC0415 - as above

        return Commands(self.settings.remote_commands).run(asked)

    def log_in(self, asked: Asked) -> Outcome:
        """Keep a login to an image registry."""
        from edge_agent.remote.loggingin import LoggingIn  # noqa: PLC0415 - as above

        return LoggingIn(self.place.data)(asked)

    def support(self, asked: Asked) -> Outcome:
        """Return an archive for whoever is to help."""
        from edge_agent.remote.reading import Logs  # noqa: PLC0415 - as above
        from edge_agent.remote.support import Support  # noqa: PLC0415 - as above

        logs = Logs(self.ring, self.place.data / "logs", self.clock)
        support = Support(self.place.data, self.settings, self.account.status, logs)
        return support(asked)

    def update(self, asked: Asked, begin_again: Callable[[], None]) -> Outcome:
        """Put another version of the agent on trial, and begin again with it."""
        from edge_agent.host import environments, update  # noqa: PLC0415 - as above

        assert isinstance(asked.options, operations.UpdateOptions)
        directory = self.slots
        if directory is None:
            fix = "install it on the device with `packhorse-agent install --slots VERSION`"
            return Outcome(f"this agent does not run from slots: {fix}", ok=False)
        wanted = environments.Source(asked.options.version)
        version = update.begin(directory, wanted, linked=True)
        text = f"version {version} is on trial: it begins now, and goes back if it is no good"
        return Outcome(text, facts={"version": version}, then=begin_again)
