"""The agent's parts, made and wired: one place that knows who needs whom."""

import functools
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from edge_agent import facts, pace
from edge_agent.account import Account, Place
from edge_agent.bundles.fetch import Fetcher
from edge_agent.bundles.mqttroad import MqttRoad
from edge_agent.bundles.porter import Porter
from edge_agent.bundles.releases import Releases
from edge_agent.bundles.roads import Roads
from edge_agent.company import Company
from edge_agent.control import ControlServer
from edge_agent.fleetlogins import FleetLogins
from edge_agent.handing import Handing
from edge_agent.hands import Hands
from edge_agent.journal import Journal
from edge_agent.lan.sharing import Papers, Sharing
from edge_agent.mind import events
from edge_agent.mind.events import Event, News
from edge_agent.mind.states import State
from edge_agent.partdesk import CarriesParts
from edge_agent.remote.desk import Desk
from edge_agent.settings import AgentSettings
from edge_agent.status import StatusServer
from edge_agent.telemetry.outbox import Outbox
from edge_agent.telemetry.path import TelemetryPath, TelemetrySettings
from edge_agent.timers import Timers
from edge_agent.uplink import Uplink
from edge_agent.workers import memory
from edge_agent.workers.crews import Crews
from edge_agent.workers.engineroom import EngineRoom
from edge_agent.workers.listeners import Listeners
from edge_agent.workers.minder import Hooks
from edge_agent.workers.supervisor import WorkerSupervisor
from runtime import files
from runtime.clock import Clock
from runtime.digests import Digest
from runtime.imagelogins import ImageLogins
from runtime.retry import Backoff

__all__ = ["Parts", "Place", "assemble"]


@dataclass(frozen=True)
class Parts:
    """Everything that works for the owner thread."""

    outbox: Outbox
    telemetry: TelemetryPath
    listeners: Listeners
    account: Account
    workers: Crews
    porter: Porter
    hands: Hands
    timers: Timers
    status: StatusServer
    control: ControlServer
    logins: Callable[[ImageLogins | None], str]

    def company(self, journal: Journal, uplink: Uplink, clock: Clock, desk: Desk) -> Company:
        """Return those that the owner of the state works with."""
        return Company(
            journal,
            self.hands,
            self.account,
            self.telemetry,
            uplink,
            self.timers,
            clock,
            rest=memory.trim,
            logins=self.logins,
            desk=desk,
        )

    def shut_down(self, uplink: Uplink, timeout_s: float) -> None:
        """End everything, each part before those that it needs; each has `timeout_s` for it."""
        self.control.stop(timeout_s)
        self.status.stop()
        self.workers.stop_all(timeout_s)
        uplink.stop(timeout_s)
        self.porter.stop(timeout_s)
        self.telemetry.stop(timeout_s)
        self.outbox.close()
        self.listeners.close_all()


def assemble(
    place: Place,
    settings: AgentSettings,
    uplink: Uplink,
    state: State,
    *,
    clock: Clock,
    put: Callable[[Event | News], None],
    keep: Callable[[], set[Digest]],
    troubles: dict[str, str],
) -> Parts:
    """Make all parts below `place.data`; start none of them."""
    about, timers = facts.collect(metered=settings.metered), Timers()
    listeners = Listeners(place.data / "run", settings.http)
    outbox, telemetry = _telemetry(place, settings, uplink, clock)
    tell = functools.partial(Account, place, state, clock=clock, troubles=troubles, about=about)
    account = tell(reserve_mb=settings.reserve_mb, telemetry=telemetry, listeners=listeners)
    releases = Releases(place.data, about, engine_cap_bytes=settings.engine_cap_mb * memory.MIB)
    crews = _crews(place, settings, listeners, telemetry, put, about=about)
    porter = Porter(releases, _fetcher(place, settings, uplink, releases, clock), put, crews.room)
    hands = Hands(
        releases=releases,
        porter=porter,
        workers=crews,
        telemetry=telemetry,
        timers=timers,
        clock=clock,
        keep=keep,
        put=put,
    )
    handing = Handing(releases, porter, put, reserve_bytes=settings.reserve_mb * memory.MIB)
    rest = (*_doors(place, account, handing), FleetLogins(place.data).take)
    return Parts(outbox, telemetry, listeners, account, crews, porter, hands, timers, *rest)


def _doors(place: Place, account: Account, handing: Handing) -> tuple[StatusServer, ControlServer]:
    """Return what listens to people at the device."""
    directory = place.data / "run"
    return StatusServer(directory, account.status), ControlServer(directory, handing.take)


def _telemetry(
    place: Place, settings: AgentSettings, uplink: Uplink, clock: Clock
) -> tuple[Outbox, TelemetryPath]:
    cap_bytes = settings.outbox_cap_mb * memory.MIB
    outbox = Outbox(place.data / "outbox.sqlite3", cap_bytes=cap_bytes)
    path = TelemetryPath(
        outbox,
        files.make_directory(place.data / "spool"),
        uplink.publish,
        device=place.device,
        clock=clock,
        settings=TelemetrySettings(flush_s=settings.flush_s, upload_kbps=settings.upload_kbps),
    )
    return outbox, path


def _crews(
    place: Place,
    settings: AgentSettings,
    listeners: Listeners,
    telemetry: TelemetryPath,
    put: Callable[[Event | News], None],
    *,
    about: Mapping[str, str],
) -> Crews:
    inbox = files.make_directory(place.data / "inbox")
    hooks = Hooks(
        put=put,
        spooled=telemetry.spooled,
        source_trouble=lambda *told: put(events.SourceTrouble(*told)),
    )
    models = WorkerSupervisor(
        place.data,
        listeners=listeners,
        source_roots=(str(inbox.absolute()), *settings.source_roots),
        allow=settings.allow,
        facts=about,
        hooks=hooks,
    )
    return Crews(models, EngineRoom(place.data, place.device, settings, put))


def _fetcher(
    place: Place,
    settings: AgentSettings,
    uplink: Uplink,
    releases: Releases,
    clock: Clock,
) -> Fetcher:
    return Fetcher(
        releases.blobs,
        releases.downloads,
        uplink.ask,
        place.ca_file,
        base_url=place.base_url,
        reserve_bytes=settings.reserve_mb * memory.MIB,
        pace=pace.of_kbps(settings.download_kbps, clock=clock.monotonic),
        metered=settings.metered,
        roads=_roads(settings, uplink),
        sharing=_sharing(place, settings),
        clock=clock,
        # Short waits here: the long ones are the mind's, and a new connection cuts those short.
        backoff=Backoff(first_s=0.5, most_s=4.0),
        held=releases.held,
        facts=releases.facts,
    )


def _roads(settings: AgentSettings, uplink: Uplink) -> Roads:
    desk = uplink.parts if isinstance(uplink, CarriesParts) else None
    return Roads(settings.transport, mqtt=None if desk is None else MqttRoad(desk))


def _sharing(place: Place, settings: AgentSettings) -> Sharing | None:
    directory = place.data / "shared"
    if not settings.lan_share or place.ca_file is None:
        files.remove(directory)
        return None
    identity, registry = place.ca_file.parent, urllib.parse.urlsplit(place.base_url).hostname or ""
    return Sharing(
        directory,
        Papers(place.ca_file, identity / "device.pem", identity / "device.key"),
        host=settings.lan_address,
        port=settings.lan_port,
        cap_bytes=settings.lan_share_mb * memory.MIB,
        kbps=settings.lan_kbps,
        registry=registry,
    )
