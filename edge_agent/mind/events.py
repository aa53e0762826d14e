"""What happens to the agent, as values: each goes through the owner thread's queue, once.

Events are for the mind (states.py); news are for the agent itself, and never get there.
"""

from collections.abc import Callable

import msgspec

from runtime.candidates import Counts
from runtime.digests import Digest
from runtime.messages import Desired, Transfer


class Event(msgspec.Struct, frozen=True):
    """Anything that happens."""


class Boot(Event, frozen=True):
    """The agent has started, with the state that its journal held."""

    boot_id: str
    """Another one than last time: the whole device has restarted."""


class DesiredReceived(Event, frozen=True):
    """The registry says what shall run; already checked by desired.py."""

    desired: Desired


class HandApplied(Event, frozen=True):
    """Somebody at the device wants a bundle whose blobs are on the disk already."""

    module: str
    bundle: Digest
    model: str
    version: int


class RestartAsked(Event, frozen=True):
    """Somebody wants a module that answers to answer from a fresh process."""

    module: str


class LinkUp(Event, frozen=True):
    """The registry can be reached again."""


class TimerKey(msgspec.Struct, frozen=True):
    """Names a timer; setting it again replaces it."""

    module: str
    kind: str
    """retry, restart, start, check, soak or stable."""
    slot: int = 0


SOURCES = "sources"
"""Kind of the timers by which the hands try to start sources again: not the mind's."""


class TimerFired(Event, frozen=True):
    """A timer that was set has run out."""

    key: TimerKey


class Fetched(Event, frozen=True):
    """All blobs of a bundle are on the disk."""

    module: str
    job: int
    transfer: Transfer | None = None


class FetchProgress(Event, frozen=True):
    """Bytes have come."""

    module: str
    job: int
    done_bytes: int
    total_bytes: int


class Verified(Event, frozen=True):
    """The bundle's files are laid out, and each has the digest that the index names."""

    module: str
    job: int


class JobFailed(Event, frozen=True):
    """A fetch or a verification did not work."""

    module: str
    job: int
    text: str
    retryable: bool
    refetch: bool = False
    """What is on the disk was damaged and is gone: fetch it again."""
    wait_s: float | None = None
    """Nothing is wrong, it may only not be done now: look again after so long."""
    budget_bytes: int | None = None
    """It ended because this budget is spent: a larger one may help."""


class WorkerEvent(Event, frozen=True):
    """Anything that one worker process says or suffers."""

    module: str
    slot: int


class WorkerLoaded(WorkerEvent, frozen=True):
    """The model is in memory."""


class WorkerWarming(WorkerEvent, frozen=True):
    """It builds an engine for this board, which may take long."""

    text: str


class WorkerChecked(WorkerEvent, frozen=True):
    """The bundle's own check has run."""

    ok: bool
    text: str


class WorkerAccepting(WorkerEvent, frozen=True):
    """It takes traffic."""


class WorkerHeld(WorkerEvent, frozen=True):
    """It takes no more traffic."""


class WorkerRests(WorkerEvent, frozen=True):
    """It takes no traffic while another of its module is tried; then it accepts again."""


class WorkerWaits(WorkerEvent, frozen=True):
    """It is not further yet; `text` says what it waits for, "" that it is."""

    text: str


class SourcesStopped(WorkerEvent, frozen=True):
    """It reads no source any more, and all that they gave is in the spool."""


class CandidateCounted(WorkerEvent, frozen=True):
    """It has compared its module's candidate with itself; whole, since it was told to mirror."""

    counts: Counts


class WorkerFailed(WorkerEvent, frozen=True):
    """It cannot load its bundle."""

    text: str


class WorkerExited(WorkerEvent, frozen=True):
    """The process has ended."""

    text: str
    final: bool = False
    """It broke a limit of its own bundle: trying it again would end the same way."""
    blameless: bool = False
    """Something else than the bundle was at fault: it is tried again, and not counted."""


class News(msgspec.Struct, frozen=True):
    """Anything that changes nothing about what runs."""


class Heard(News, frozen=True):
    """The registry has spoken; nobody has read it yet."""

    about: str
    """desired, ack or command."""
    payload: bytes


class LinkChanged(News, frozen=True):
    """The link came up, or went down for a reason."""

    reason: str
    """Empty: it is up."""


class SourceTrouble(News, frozen=True):
    """A source cannot be read, or can again (`text` empty)."""

    module: str
    source: str
    text: str


class FetchTrouble(News, frozen=True):
    """Something of a bundle's download did not work, and was done otherwise."""

    module: str
    text: str
    """Empty: another bundle is on its way now."""


class EngineTrouble(News, frozen=True):
    """The container engine does not answer, or does again (`text` empty)."""

    text: str


class HandsAsked(News, frozen=True):
    """The same as HandApplied, from another thread, which waits for the answer."""

    applied: HandApplied
    answer: Callable[[str], None]
    """Told once: why it was not taken over; "" if it was, durably."""


class StopAsked(News, frozen=True):
    """The agent shall end."""
