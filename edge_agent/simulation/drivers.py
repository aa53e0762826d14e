"""What stands for hardware in a simulated device: disk, downloads, workers.

Each takes the time that it would take, and answers with the events of the real one.
"""

import errno
import os
import secrets
from collections.abc import Callable

from edge_agent.bundles import offers
from edge_agent.mind import effects, events
from edge_agent.mind.effects import Effect
from edge_agent.mind.events import Event, TimerKey
from edge_agent.mind.states import SavedState
from edge_agent.simulation.faults import Faults
from edge_agent.simulation.loop import Timer
from edge_agent.simulation.radio import Radio
from edge_agent.simulation.shelf import Shelf
from edge_agent.timers import Timers
from runtime import messages
from runtime.bundle import encodings
from runtime.bundle.index import Index
from runtime.clock import Clock
from runtime.digests import Digest
from runtime.errors import InvalidError
from runtime.messages import FetchRequest, FetchResponse, Offer, Transfer

DECODING_BYTES = 256 * 1024 * 1024
Later = Callable[[float, Callable[[], None]], Timer]
Put = Callable[[Event], None]


class Disk:
    """Keeps what must survive, in memory; the device stands still while a slow one writes."""

    def __init__(self, faults: Faults) -> None:
        """Begin empty, as a device that was never started."""
        self.saved, self._faults = SavedState(), faults
        self.held: list[Digest] = []
        """Bundles whose files are there, newest first."""
        self.busy_s = 0.0
        """How long the last write takes; whoever owns the device waits for it."""

    def refuses(self) -> bool:
        """Say whether there is no room for what is to be written now."""
        return self._faults.refuses_write()

    def write(self, saved: SavedState) -> bool:
        """Make a state durable; raise OSError while the disk is full."""
        if saved == self.saved:
            return False
        if self.refuses():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.saved = saved
        self.busy_s += self._faults.disk_s()
        return True


class Porter:
    """Brings bundles: asks for real offers, and waits as long as the bytes would take."""

    def __init__(
        self, radio: Radio, shelf: Shelf, disk: Disk, later: Later, put: Put, *, bytes_per_s: float
    ) -> None:
        """`put` takes what came of a job."""
        self._radio, self._shelf, self._disk = radio, shelf, disk
        self._later, self._put, self._bytes_per_s = later, put, bytes_per_s
        self._cancelled: set[int] = set()
        self.downloaded_bytes = 0

    def cancel(self, job: int) -> None:
        """Answer no more for a job."""
        self._cancelled.add(job)

    def fetch(self, effect: effects.Fetch) -> None:
        """Bring all blobs of a bundle."""
        if effect.job in self._cancelled:
            return
        if effect.bundle in self._disk.held:
            self._put(events.Fetched(effect.module, effect.job, Transfer(0, 0)))
            return
        self._want(effect, (effect.bundle,), lambda size, _: self._index_here(effect, size))

    def _index_here(self, effect: effects.Fetch, size: int) -> None:
        def told(index: Index | None, reason: str) -> None:
            if index is None:
                self._failed(effect, reason, retryable=True)
                return
            blobs = tuple(sorted({entry.sha256 for entry in index.files}))
            self._want(effect, blobs, lambda more, whole: self._here(effect, size + more, whole))

        self._shelf.see(effect.bundle, self._radio.ask, told)

    def _here(self, effect: effects.Fetch, received: int, whole: int) -> None:
        if effect.job in self._cancelled:
            return
        if self._disk.refuses():
            text = f"disk: it needs {whole} bytes and has 0 free: make room"
            self._failed(effect, text, retryable=True)
            return
        self._disk.held.insert(0, effect.bundle)
        transfer = Transfer(received_bytes=received, whole_bytes=max(received, whole))
        self._put(events.Fetched(effect.module, effect.job, transfer))

    def _want(
        self,
        effect: effects.Fetch,
        blobs: tuple[Digest, ...],
        done: Callable[[int, int], None],
        *,
        received: int = 0,
        whole: int = 0,
    ) -> None:
        """Get offers for all these, some at a time; then call `done` with their bytes."""
        if not blobs:
            done(received, whole)
            return

        def answered(response: FetchResponse | None) -> None:
            some = self._offers(effect, response)
            if not some or effect.job in self._cancelled:
                return
            size = sum(offer.encoded_size for offer in some)
            full = sum(offer.whole_size or offer.encoded_size for offer in some)
            self.downloaded_bytes += size
            left = tuple(blob for blob in blobs if all(blob != offer.blob for offer in some))
            sums = {"received": received + size, "whole": whole + full}
            self._later(size / self._bytes_per_s, lambda: self._want(effect, left, done, **sums))

        request = FetchRequest(
            secrets.token_hex(8),
            blobs[: messages.MAX_OFFER_BLOBS],
            encodings.DECODABLE,
            bundle=effect.bundle,
            held=tuple(self._disk.held[: messages.MAX_HELD_BUNDLES]),
            memory_bytes=DECODING_BYTES,
        )
        self._radio.question(request, answered)

    def _offers(self, effect: effects.Fetch, response: FetchResponse | None) -> list[Offer]:
        """Return what is offered; nothing, and the job has failed, if there is nothing."""
        if response is None:
            self._failed(effect, "the registry did not answer in time", retryable=True)
            return []
        if not response.offers:
            text = response.error or "the registry offers nothing"
            self._failed(effect, text, retryable=response.retryable)
            return []
        try:
            return [offers.require_sane(one, encodings.DECODABLE, None) for one in response.offers]
        except InvalidError as error:
            self._failed(effect, str(error), retryable=False)
            return []

    def _failed(self, effect: effects.Fetch, text: str, *, retryable: bool) -> None:
        if effect.job not in self._cancelled:
            self._put(events.JobFailed(effect.module, effect.job, text, retryable))


class Hands:
    """Does what the mind asks for, by letting time pass."""

    def __init__(
        self,
        porter: Porter,
        disk: Disk,
        faults: Faults,
        timers: Timers,
        clock: Clock,
        *,
        later: Later,
        put: Put,
        keep: Callable[[], set[Digest]],
        jitter: Callable[[float, float], float],
    ) -> None:
        """`jitter` draws from a range; `keep` returns the bundles that are needed."""
        self._porter, self._disk, self._faults = porter, disk, faults
        self._timers, self._clock, self._later, self._put = timers, clock, later, put
        self._keep, self._jitter = keep, jitter

    def do(self, effect: Effect) -> None:
        """Do one effect, but Report."""
        match effect:
            case effects.Fetch():
                # As long as a porter takes to see what is on its disk.
                self._later(self._faults.work_s(), lambda: self._porter.fetch(effect))
            case effects.Verify():
                read = events.Verified(effect.module, effect.job)
                self._soon(self._faults.read_s(), read)
            case effects.CancelJob():
                self._porter.cancel(effect.job)
            case effects.CollectGarbage():
                needed = self._keep()
                self._disk.held = [bundle for bundle in self._disk.held if bundle in needed]
            case effects.SetTimer():
                self._set_timer(effect)
            case effects.WorkerEffect():
                self._work(effect)

    def again(self, key: TimerKey) -> None:
        """Sources start at once here."""

    def _set_timer(self, effect: effects.SetTimer) -> None:
        delay_s = effect.delay_s
        if effect.jitter:
            delay_s = self._jitter(effect.least_s, delay_s)
        self._timers.set(effect.key, self._clock.monotonic() + delay_s)

    def _work(self, effect: effects.WorkerEffect) -> None:
        module, slot, work_s = effect.module, effect.slot, self._faults.work_s()
        match effect:
            case effects.StartWorker():
                self._soon(work_s, events.WorkerLoaded(module, slot))
            case effects.RunCheck():
                self._soon(work_s, self._checked(module, slot))
            case effects.Accept():
                self._soon(0.0, events.WorkerAccepting(module, slot))
            case effects.Hold():
                self._soon(0.0, events.WorkerHeld(module, slot))
            case effects.StopSources():
                self._soon(0.0, events.SourcesStopped(module, slot))
            case effects.StopWorker():
                self._soon(0.0, events.WorkerExited(module, slot, "stopped"))

    def _checked(self, module: str, slot: int) -> events.WorkerChecked:
        first = all(
            saved.running is None for saved in self._disk.saved.modules if saved.name == module
        )
        if self._faults.fails_check(first=first):
            return events.WorkerChecked(module, slot, ok=False, text="simulated: outputs differ")
        return events.WorkerChecked(module, slot, ok=True, text="simulated")

    def _soon(self, delay_s: float, event: Event) -> None:
        self._later(delay_s, lambda: self._put(event))
