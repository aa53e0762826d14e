"""The one thread that moves bundles: fetches them, lays them out, sweeps what nobody needs.

One job at a time, in the order given, so that nothing is swept while it is being brought.
"""

import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Collection
from typing import TypeAlias

from edge_agent.bundles.fetch import FetchCancelledError, Fetcher
from edge_agent.bundles.patience import NotNowError
from edge_agent.bundles.purse import BudgetError
from edge_agent.bundles.releases import Releases
from edge_agent.mind import effects, events
from edge_agent.mind.events import Event, News
from edge_agent.workers import memory
from edge_agent.workers.engineroom import EngineRoom
from runtime.digests import Digest
from runtime.errors import IntegrityError, PackhorseError

log = logging.getLogger(__name__)

PROGRESS_S = 0.25
"""Progress is told at most this often."""

_Job: TypeAlias = effects.Fetch | effects.Verify | frozenset[Digest] | Digest
"""A bundle to bring or to lay out; those to keep of all; one whose pins are to be cleared."""


class Porter:
    """Does Fetch, Verify and CollectGarbage; puts Fetched, Verified, FetchProgress, JobFailed."""

    def __init__(
        self,
        releases: Releases,
        fetcher: Fetcher,
        put: Callable[[Event | News], None],
        room: EngineRoom | None = None,
    ) -> None:
        """Work on `releases`, and on images in the engine's `room`; tell `put`."""
        self._room = room
        self._releases, self._fetcher, self._put = releases, fetcher, put
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._cancelled: set[int] = set()
        self._stopping = False
        self._told = ""
        self._warned: dict[str, Digest] = {}
        """Module: the bundle of which something was told that did not work."""
        self._thread = threading.Thread(target=self._run, name="porter", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._fetcher.start()
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End, in the middle of a download if need be: it goes on from there another time."""
        self._stopping = True
        self._jobs.put(None)
        self._thread.join(timeout_s)
        self._fetcher.stop()

    def add(self, job: effects.Fetch | effects.Verify) -> None:
        """Do this job after those added before."""
        self._jobs.put(job)

    def cancel(self, job: int) -> None:
        """Do not do, or stop doing, a job; it tells nothing more."""
        self._cancelled.add(job)

    def unpin(self, bundle: Digest) -> None:
        """Clear a bundle's pins once all that was to be removed before has been."""
        self._jobs.put(bundle)

    def collect(self, keep: Collection[Digest]) -> None:
        """Remove, when it is its turn, all that none of these bundles needs."""
        self._jobs.put(frozenset(keep))

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            if isinstance(job, frozenset):
                self._collect(job)
            elif isinstance(job, str):
                self._releases.pins.clear(job)
            else:
                if not self._is_cancelled(job.job):
                    self._do(job)
                # Numbers rise: those up to this one will not be asked about again.
                old = [number for number in tuple(self._cancelled) if number <= job.job]
                self._cancelled.difference_update(old)
            if self._jobs.empty():
                memory.trim()

    def _do(self, job: effects.Fetch | effects.Verify) -> None:
        try:
            if isinstance(job, effects.Fetch):
                self._fetch(job)
            else:
                index = self._releases.lay_out(job.bundle)
                if self._room is not None:
                    self._room.require(index)
                self._tell(job, events.Verified(job.module, job.job))
        except FetchCancelledError:
            log.info("job cancelled", extra={"module_name": job.module, "bundle": job.bundle})
        except PackhorseError as error:
            self._failed(job, error, retryable=error.retryable)
        except OSError as error:
            self._failed(job, error, retryable=True)
        except Exception as error:  # the outermost loop: a bundle must not end this thread
            log.exception("job failed", extra={"module_name": job.module, "bundle": job.bundle})
            self._failed(job, error, retryable=True)

    def _fetch(self, job: effects.Fetch) -> None:
        told_at = 0.0

        def progress(done_bytes: int, total_bytes: int) -> None:
            nonlocal told_at
            now = time.monotonic()
            if now - told_at >= PROGRESS_S:
                told_at = now
                progressed = events.FetchProgress(job.module, job.job, done_bytes, total_bytes)
                self._tell(job, progressed)

        def warn(text: str) -> None:
            self._warned[job.module] = job.bundle
            self._put(events.FetchTrouble(job.module, text))

        if self._warned.get(job.module, job.bundle) != job.bundle:
            del self._warned[job.module]
            self._put(events.FetchTrouble(job.module, ""))
        self._fetcher.fetch(
            job.bundle,
            progress=progress,
            cancelled=lambda: self._is_cancelled(job.job),
            warn=warn,
            terms=job.terms,
        )
        if self._room is not None:
            passage = functools.partial(
                self._fetcher.passage,
                job.bundle,
                cancelled=lambda: self._is_cancelled(job.job),
                terms=job.terms,
            )
            index = self._releases.fetched_index(job.bundle)
            self._room.bring(job.bundle, index, progress=progress, passage=passage)
        transfer = self._fetcher.transfer(job.bundle)
        self._tell(job, events.Fetched(job.module, job.job, transfer))

    def _failed(
        self, job: effects.Fetch | effects.Verify, error: Exception, *, retryable: bool
    ) -> None:
        damaged = isinstance(job, effects.Verify) and isinstance(error, IntegrityError)
        text = str(error) or type(error).__name__
        # A trouble that lasts is logged once.
        log.log(
            logging.DEBUG if text == self._told else logging.WARNING,
            "job did not work",
            extra={"module_name": job.module, "bundle": job.bundle, "reason": text},
        )
        self._told = text
        failed = events.JobFailed(
            job.module,
            job.job,
            text,
            retryable,
            refetch=damaged,
            wait_s=error.wait_s if isinstance(error, NotNowError) else None,
            budget_bytes=error.budget_bytes if isinstance(error, BudgetError) else None,
        )
        self._tell(job, failed)

    def _tell(self, job: effects.Fetch | effects.Verify, event: Event) -> None:
        if not self._is_cancelled(job.job):
            self._put(event)

    def _is_cancelled(self, job: int) -> bool:
        return self._stopping or job in self._cancelled

    def _collect(self, keep: frozenset[Digest]) -> None:
        try:
            self._fetcher.retain(keep)
            self._releases.collect(keep)
            if self._room is not None:
                self._room.collect(keep)
        except OSError:
            log.exception("garbage not collected")
