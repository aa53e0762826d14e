"""The devices of one process, from their start to the account of how each ended."""

import gc
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from edge_agent import enrol
from edge_agent.simulation.device import Device
from edge_agent.simulation.life import FACTS
from edge_agent.simulation.loop import Loop
from edge_agent.simulation.shelf import Shelf
from edge_agent.simulation.tries import Tries
from runtime import topics
from runtime.clock import Clock, SystemClock
from runtime.credentials import LinkSettings
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.simulated import Count, Fleet, Member

COUNT_EVERY_S = 0.1
COUNT_SHARE = 100
"""Counting takes at most one in so many parts of the time."""
KEEPALIVE_S = 60
GARBAGE = 200_000
"""Objects between two looks for garbage: there are many that stay."""
ENROLLING = 8
"""Devices that enrol at once: a registry lets in all of those together."""
FAREWELL_S = 1.0


class Simulation:
    """All devices of a fleet in this process; `stop` may be called from any thread."""

    def __init__(
        self,
        fleet: Fleet,
        tell: Callable[[msgspec.Struct], None],
        *,
        clock: Clock | None = None,
    ) -> None:
        """Enrol whoever has a token; raises what enrolment raises."""
        if not fleet.members:
            raise InvalidError("members", 0, "give a process at least one device")
        _enrol(fleet)
        self._tell = tell
        self.loop = Loop(clock or SystemClock())
        first = Path(fleet.members[0].directory)
        shelf = Shelf(
            self.loop,
            Path(fleet.place),
            base_url=fleet.registry_url,
            ca_file=first / "identity" / "ca.pem",
        )
        self._tries = Tries()
        self.devices = [
            Device(member, fleet, self.loop, shelf=shelf, settings=_link(member), tries=self._tries)
            for member in fleet.members
        ]

    def run(self) -> None:
        """Run until `stop`, then tell how each device ended."""
        gc.freeze()
        gc.set_threshold(GARBAGE)
        for device in self.devices:
            device.start()
        self._count()
        self.loop.run()
        for device in self.devices:
            self._tell(device.outcome())

    def stop(self) -> None:
        """Have `run` end."""
        self.loop.call(self._end)

    def storm(self) -> None:
        """Have the power of the whole site go for a moment."""
        self.loop.call(self._storm)

    def calm(self) -> None:
        """Let no more faults happen."""
        self.loop.call(self._calm)

    def count(self) -> Count:
        """Return how the devices are now."""
        running, ran, generations = Counter[Digest](), Counter[Digest](), Counter[int]()
        connected = failed = messages = connects = met = spared = waiting = 0
        for device in self.devices:
            bundle, refused = device.standing()
            if bundle is not None:
                running[bundle] += 1
            failed += refused
            ran.update(device.ran)
            generations[device.generation] += 1
            connected += device.connected
            messages += device.traffic.messages
            connects += device.traffic.connects
            met += device.traffic.connects > 0
            spared += device.spared
            waiting += device.outbox.records
        return Count(
            devices=len(self.devices),
            connected=connected,
            running=dict(running),
            ran=dict(ran),
            failed=failed,
            generations=dict(generations),
            messages=messages,
            connects=connects,
            met=met,
            spared=spared,
            waiting=waiting,
            tries=self._tries.recent(self.loop.clock.monotonic()),
        )

    def _count(self) -> None:
        """Tell how the devices are, as often as leaves nearly all the time to them."""
        began = self.loop.clock.monotonic()
        self._tell(self.count())
        took_s = self.loop.clock.monotonic() - began
        self.loop.later(max(COUNT_EVERY_S, took_s * COUNT_SHARE), self._count)

    def _storm(self) -> None:
        for device in self.devices:
            device.storm()

    def _calm(self) -> None:
        for device in self.devices:
            device.calm()

    def _end(self) -> None:
        for device in self.devices:
            device.stop()
        self.loop.ended = True


def _enrol(fleet: Fleet) -> None:
    def enrol_one(member: Member) -> None:
        enrol.enrol(
            Path(member.directory),
            url=fleet.registry_url,
            token=member.token,
            device_id=member.name,
            facts=FACTS,
        )

    new = [member for member in fleet.members if member.token]
    with ThreadPoolExecutor(ENROLLING) as pool:
        list(pool.map(enrol_one, new))


def _link(member: Member) -> LinkSettings:
    directory = Path(member.directory)
    identity = enrol.load(directory)
    if identity is None:
        raise InvalidError("directory", member.directory, "it holds no identity.json: enrol first")
    files = directory / "identity"
    return LinkSettings(
        host=identity.broker_host,
        port=identity.broker_port,
        client_id=topics.device_id(member.name),
        ca_file=files / "ca.pem",
        cert_file=files / "device.pem",
        key_file=files / "device.key",
        keepalive_s=KEEPALIVE_S,
    )
