"""The replicas of a revision: who they are now, how they fare, and who is asked next.

    Group "r3"
    ├── 10.0.0.4:8080   given as an address
    └── r3.demo:8080    given as a name ── resolved again and again ──► 10.1.0.7, 10.1.0.9

A name that no longer resolves changes nothing: the addresses that it had are asked as long as they
answer. One task probes each replica, one follows each name; they end with `leave`.
"""

import asyncio
import contextlib
import ipaddress
import logging
import random
import socket
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

from runtime.gateway import health
from runtime.gateway.choice import least
from runtime.gateway.health import Health, State
from runtime.gateway.retries import Failure

log = logging.getLogger(__name__)

RESOLVE_S = 2.0
RESOLVE_FIRST_S = 0.25


class Carrier(Protocol):
    """Brings requests to one replica."""

    on_end: Callable[[], None]

    async def probe(self) -> bool:
        """Say whether the replica is ready."""
        ...

    def leave(self) -> None:
        """Let go of connections once they are idle."""
        ...


CarrierT = TypeVar("CarrierT", bound=Carrier)
Make = Callable[[str, int, str], CarrierT]
"""Makes a carrier from IP address, port, and the address as it was given."""


class Replica(Generic[CarrierT]):
    """One replica, at one address."""

    def __init__(self, address: str, carrier: CarrierT, on_change: Callable[[], None]) -> None:
        """Begin to watch it."""
        self.address, self.carrier = address, carrier
        self.health = Health()
        self.in_hand = 0
        """Requests that it has not answered yet."""
        self._on_change = on_change
        self._due = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._watch = self._loop.create_task(self._keep_probing())
        carrier.on_end = self._doubt

    def worked(self) -> None:
        """Note an answer."""
        self.health = health.worked(self.health)

    def failed(self, failure: Failure) -> None:
        """Note a try without an answer."""
        certain = failure in {Failure.UNREACHED, Failure.SENT_AWAY}
        self._become(health.failed(self.health, self._loop.time(), certain=certain))
        self._due.set()

    def leave(self) -> None:
        """Ask it nothing new; what it has in hand is finished."""
        self._watch.cancel()
        self.carrier.leave()

    def _doubt(self) -> None:
        """Probe it now: a connection of its has ended by itself."""
        if self.health.state is State.WELL:
            self.health = health.doubted(self.health, self._loop.time())
            self._due.set()

    async def _keep_probing(self) -> None:
        while True:
            well = await self.carrier.probe()
            self._become(health.probed(self.health, self._loop.time(), well=well))
            while (wait_s := self.health.probe_at - self._loop.time()) > 0:
                self._due.clear()
                with contextlib.suppress(asyncio.TimeoutError):
                    await asyncio.wait_for(self._due.wait(), wait_s)

    def _become(self, new: Health) -> None:
        old, self.health = self.health, new
        if old.state is not new.state:
            if State.ILL in {old.state, new.state}:
                phrase = "replica answers" if new.state is State.WELL else "replica does not answer"
                log.info(phrase, extra={"replica": self.address})
            self._on_change()


class Group(Generic[CarrierT]):
    """All replicas of one revision that speak one protocol."""

    def __init__(self, make: Make[CarrierT], on_change: Callable[[], None]) -> None:
        """Have none yet. `on_change` is called when one comes, goes, or changes its state."""
        self._make, self._on_change = make, on_change
        self._fixed: tuple[str, ...] = ()
        self._names: dict[str, asyncio.Task[None]] = {}
        self._resolved: dict[str, tuple[str, ...]] = {}
        self._replicas: dict[str, Replica[CarrierT]] = {}
        self.replicas: tuple[Replica[CarrierT], ...] = ()

    def set(self, backends: Iterable[str]) -> None:
        """Have the replicas at these HOST:PORT; those that stay keep their connections."""
        given = tuple(dict.fromkeys(backends))
        self._fixed = tuple(backend for backend in given if is_address(backend))
        names = set(given) - set(self._fixed)
        for name in set(self._names) - names:
            self._names.pop(name).cancel()
            self._resolved.pop(name, None)
        for name in names - set(self._names):
            self._names[name] = asyncio.get_running_loop().create_task(self._follow(name))
        self._settle()

    def well(self) -> tuple[str, ...]:
        """Return the addresses of those that answer."""
        return tuple(r.address for r in self.replicas if r.health.state is State.WELL)

    def pick(
        self, tried: Iterable[Replica[CarrierT]], turn: int, *, ill: bool
    ) -> Replica[CarrierT] | None:
        """Return who is asked next of those not tried; the ill only if `ill`. None: nobody."""
        left = [
            replica
            for replica in self.replicas
            if replica not in tried and (ill or replica.health.state is not State.ILL)
        ]
        if len(left) <= 1:
            return left[0] if left else None
        return left[least([(r.health.state, r.in_hand) for r in left], turn)]

    def leave(self) -> None:
        """Let go of all."""
        self.set(())

    async def _follow(self, name: str) -> None:
        """Keep the addresses of a name."""
        trouble = False
        while True:
            try:
                found = await _resolve(name)
            except OSError as error:
                if not trouble:
                    facts = {"backend": name, "error": str(error)}
                    log.warning("name does not resolve", extra=facts)
                trouble = True
            else:
                if trouble:
                    log.info("name resolves again", extra={"backend": name})
                trouble = False
                if found != self._resolved.get(name):
                    self._resolved[name] = found
                    self._settle()
            wait_s = RESOLVE_S if name in self._resolved else RESOLVE_FIRST_S
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))  # noqa: S311 - spreads load

    def _settle(self) -> None:
        wanted: dict[str, str] = {backend: backend for backend in self._fixed}
        for name, found in self._resolved.items():
            for address in found:
                wanted.setdefault(address, name)
        gone = [self._replicas.pop(address) for address in set(self._replicas) - set(wanted)]
        for replica in gone:
            replica.leave()
        new = [address for address in wanted if address not in self._replicas]
        for address in new:
            host, port = split(address)
            carrier = self._make(host, port, wanted[address])
            self._replicas[address] = Replica(address, carrier, self._on_change)
        self.replicas = tuple(self._replicas[address] for address in wanted)
        if gone or new:
            self._on_change()


def split(backend: str) -> tuple[str, int]:
    """Return host and port of HOST:PORT; an IPv6 address stands in brackets."""
    host, _, port = backend.rpartition(":")
    return host.strip("[]"), int(port)


def is_address(backend: str) -> bool:
    """Say whether the host is an IP address, which needs no resolving."""
    try:
        ipaddress.ip_address(split(backend)[0])
    except ValueError:
        return False
    return True


async def _resolve(name: str) -> tuple[str, ...]:
    host, port = split(name)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    shown = (f"[{a[0]}]:{port}" if ":" in str(a[0]) else f"{a[0]}:{port}" for *_, a in found)
    return tuple(sorted(set(shown)))
