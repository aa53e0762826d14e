"""Models that are loaded and unloaded while the server answers.

    (on the shelf) ──load──► LOADING ──► READY ──unload, or replaced──► UNLOADING ──► (on the shelf)
                                └──► UNAVAILABLE: why; what ran before runs on

A version is loaded, warmed up and held against its own check beside what runs; then one assignment
gives it the name. What it replaces answers those who have found it already, and is closed when the
last of them is done; so no request is dropped, and none waits.
"""

import asyncio
import logging
import weakref
from collections.abc import Awaitable, Callable, Collection, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeVar

from runtime.bundle import index as bundle_index
from runtime.bundle import policy
from runtime.bundle.index import Index
from runtime.errors import ModelError, PackhorseError
from runtime.inference.session import Session
from runtime.serving import loading
from runtime.serving.dataplane import DataPlane
from runtime.serving.errors import UnknownModelError
from runtime.serving.measuring import Measured
from runtime.serving.memory import give_back
from runtime.serving.served import Predictor, Served

log = logging.getLogger(__name__)

State = Literal["LOADING", "READY", "UNAVAILABLE", "UNLOADING"]
DRAIN_S = 60.0
"""How long what was replaced may be in use; then its threads and processes end all the same."""
NOT_LOADED = "not loaded"

Key = tuple[str, str]
Result = TypeVar("Result")


class Entry(NamedTuple):
    """One version of a model, and what has become of it."""

    name: str
    version: str
    state: State
    reason: str
    """Why it is not READY; "" if there is nothing to say."""


class Shelf(Protocol):
    """Where versions lie that can be loaded."""

    def versions(self) -> Sequence[Key]:
        """Return names and versions, each name's newest last; quick, it is asked often."""
        ...

    def open(self, name: str, version: str) -> tuple[Path, Index]:
        """Return a bundle's directory and index; raise PackhorseError or OSError."""
        ...

    def graph(self, name: str, version: str) -> Session | None:
        """Give away the graph that had to be loaded to `open` it, if one had to be."""
        ...


class Repository:
    """Loads from a shelf into a data plane. Its methods belong to the event loop."""

    def __init__(
        self, plane: DataPlane, shelf: Shelf, allow: Collection[str] = policy.DEFAULT
    ) -> None:
        self._plane, self._shelf, self._allow = plane, shelf, allow
        self._states: dict[Key, Entry] = {}
        """Of what is or was to be loaded; of the rest the shelf knows."""
        self._turns: dict[str, asyncio.Lock] = {}
        self._tasks: set[asyncio.Task[object]] = set()

    def index(self) -> list[Entry]:
        """Return all that is there, in whatever state."""
        entries = {
            (name, version): Entry(name, version, "UNAVAILABLE", NOT_LOADED)
            for name, version in self._shelf.versions()
        }
        for served in self._plane.served:
            key = (served.name, served.version)
            entries[key] = Entry(*key, "READY", "")
        return sorted((entries | self._states).values())

    async def load(self, name: str, version: str | None = None) -> None:
        """Serve a version, as it lies there now; without one the newest, and no other any more.

        Raises UnknownModelError, or what loading raises (InvalidError, ModelError, OSError); then
        what ran before runs on. Cancelled, it goes on in the background.
        """
        await self._finish(self._in_turn(name, lambda: self._load(name, version)))

    async def unload(self, name: str, version: str | None = None) -> None:
        """Stop serving a version, or all of them; return once nobody uses it any more.

        Raises UnknownModelError if none is served.
        """
        await self._finish(self._unload_and_wait(name, version))

    async def _finish(self, doing: Awaitable[Result]) -> Result:
        """Await what must not stop halfway because its caller does."""
        task = asyncio.ensure_future(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _in_turn(self, name: str, do: Callable[[], Awaitable[Result]]) -> Result:
        async with self._turns.setdefault(name, asyncio.Lock()):
            return await do()

    async def _load(self, name: str, version: str | None) -> None:
        there = [v for n, v in self._shelf.versions() if n == name]
        if not there or (version is not None and version not in there):
            raise UnknownModelError(name, version, [f"{n} version {v}" for n, v in self._states])
        chosen = version or there[-1]
        self._note(name, chosen, "LOADING")
        try:
            index, model, measured = await asyncio.to_thread(self._open, name, chosen)
        except (PackhorseError, OSError, MemoryError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            self._note(name, chosen, "UNAVAILABLE", reason)
            extra = {"model": name, "version": chosen, "reason": reason}
            log.error("model not loaded", extra=extra)  # noqa: TRY400 - no bug here
            if isinstance(error, MemoryError):
                raise ModelError(f"{name}: out of memory") from error
            raise
        bundle = bundle_index.identity(index)
        released = _watch(self._plane.add(name, chosen, model, measured, bundle=bundle))
        self._forget(name, chosen)
        log.info("model loaded", extra={"model": name, "version": chosen})
        waits = [released]
        if version is None:
            others = [v for v in self._plane.versions(name) if v != chosen]
            waits += [self._withdraw(name, other) for other in others]
        # Whoever asked to load has what he asked for; the old ends in its own time.
        self._later(self._drained(name, waits))

    def _open(self, name: str, version: str) -> tuple[Index, Predictor, Measured]:
        directory, index = self._shelf.open(name, version)
        graph = self._shelf.graph(name, version)
        return index, *loading.load(directory, index, self._allow, graph=graph)

    async def _unload_and_wait(self, name: str, version: str | None) -> None:
        released = await self._in_turn(name, lambda: self._unload(name, version))
        await self._drained(name, released)

    async def _unload(self, name: str, version: str | None) -> list[asyncio.Event]:
        there = self._plane.versions(name)
        if not there or (version is not None and version not in there):
            raise UnknownModelError(name, version, [f"{name} version {v}" for v in there])
        gone = there if version is None else (version,)
        return [self._withdraw(name, each) for each in gone]

    def _withdraw(self, name: str, version: str) -> asyncio.Event:
        self._note(name, version, "UNLOADING")
        return _watch(self._plane.withdraw(name, version))

    async def _drained(self, name: str, released: list[asyncio.Event]) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in released]
        _, late = await asyncio.wait(waits, timeout=DRAIN_S)
        for wait in late:
            wait.cancel()
        if late:
            log.warning("model still in use after it was replaced", extra={"model": name})
        for key in [k for k, entry in self._states.items() if entry.state == "UNLOADING"]:
            if key[0] == name:
                self._forget(*key)
        await asyncio.to_thread(give_back)

    def _later(self, doing: Awaitable[None]) -> None:
        task: asyncio.Task[object] = asyncio.ensure_future(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _note(self, name: str, version: str, state: State, reason: str = "") -> None:
        self._states[name, version] = Entry(name, version, state, reason)
        self._plane.pending[name, version] = f"it is {state.lower()}"
        if state == "UNAVAILABLE":
            self._plane.pending[name, version] = reason

    def _forget(self, name: str, version: str) -> None:
        self._states.pop((name, version), None)
        self._plane.pending.pop((name, version), None)


def _watch(served: Served | None) -> asyncio.Event:
    """Return an event that is set when nobody holds this any more; the caller must not either."""
    released = asyncio.Event()
    if served is None:
        released.set()
    else:
        loop = asyncio.get_running_loop()
        weakref.finalize(served, _tell, loop, released).atexit = False
    return released


def _tell(loop: asyncio.AbstractEventLoop, released: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(released.set)
