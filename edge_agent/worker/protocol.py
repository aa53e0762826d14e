"""What the agent and a worker process say to one another, over a socket pair.

    agent                     worker
      Start ────────────────►
            ◄──────────────── Warming             (now and then) an engine is being built
            ◄──────────────── Loaded | Failed
      RunCheck ─────────────►
            ◄──────────────── Checked
      Accept ───────────────►                     take traffic from the shared listeners
            ◄──────────────── Accepting
      StartSources ─────────►                     only one worker of a module has sources on
            ◄──────────────── Spooled             (now and then) records lie in the spool
      StopSources ──────────►
            ◄──────────────── SourcesStopped      the last item is in the spool
      Hold ─────────────────►                     no new connections; stay warm
            ◄──────────────── Held
      Mirror ───────────────►                     give inputs to the candidate beside it
            ◄──────────────── Counted             (now and then) how the two compare
      StopMirror ───────────►
      Ping ─────────────────►
            ◄──────────────── Pong
      Stop ─────────────────►                     drain, then exit 0

A worker whose socket closes drains and exits: it never outlives its agent. Frames are a four-byte
big-endian length, then msgpack.
"""

import msgspec

from runtime.candidates import Candidate, Counts
from runtime.messages import Capture

MAX_FRAME_BYTES = 1 << 20


class ToWorker(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Anything the agent says."""


class FromWorker(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """Anything a worker says."""


class Start(ToWorker, frozen=True):
    """Load this bundle. The worker then waits for orders."""

    module: str
    bundle: str
    model: str
    version: int
    bundle_directory: str
    """Holds the bundle's files under their own paths, and `.index.json`."""
    spool_directory: str
    sources: tuple[str, ...]
    source_roots: tuple[str, ...]
    """Absolute directories below which `directory:` sources may read; the first is the inbox."""
    capture: Capture
    listener_fds: tuple[int, ...]
    """Listening sockets, shared by all workers of this module; accept only after Accept."""
    allow: tuple[str, ...]
    """What the device lets bundles bring, as runtime.bundle.policy names it."""
    facts: dict[str, str] = {}
    """What chooses among the bundle's variants."""
    candidate: Candidate | None = None
    """This is a module's candidate: it answers that module's worker, and nobody else."""
    engines_directory: str = ""
    """Where engines that TensorRT builds are kept; empty: nowhere."""


class RunCheck(ToWorker, frozen=True):
    """Run the bundle's own check, then answer Checked (also when the bundle has none)."""


class Accept(ToWorker, frozen=True):
    """Take connections."""


class Hold(ToWorker, frozen=True):
    """Take no new connection, close those that stand after their next answer, stay loaded."""


class StartSources(ToWorker, frozen=True):
    """Read the sources, each on from its position."""

    positions: dict[str, str]


class StopSources(ToWorker, frozen=True):
    """Finish the item in hand and read no more."""


class Mirror(ToWorker, frozen=True):
    """Give a share of the inputs to a candidate, compare its answers, and say what was seen."""

    path: str
    """The Unix socket at which the candidate listens."""
    candidate: Candidate
    rtol: float
    """With `atol` the tolerances of its bundle's check."""
    atol: float
    counts: Counts = Counts()
    """What was seen of it before, to go on from."""


class StopMirror(ToWorker, frozen=True):
    """Give it nothing more."""


class Ping(ToWorker, frozen=True):
    """Prove that the process is not stuck."""


class Stop(ToWorker, frozen=True):
    """Drain and exit."""


class Warming(FromWorker, frozen=True):
    """The model's engine is being built, so that loading takes longer."""

    text: str


class Loaded(FromWorker, frozen=True):
    """The model is in memory and has run once."""

    seconds: float


class Failed(FromWorker, frozen=True):
    """The model cannot be loaded; the process exits."""

    kind: str
    text: str


class Checked(FromWorker, frozen=True):
    """How the check went."""

    ok: bool
    text: str
    """Why not, or what was measured."""
    p95_ms: float


class Accepting(FromWorker, frozen=True):
    """Traffic is taken."""


class Held(FromWorker, frozen=True):
    """No new traffic is taken."""


class SourcesStopped(FromWorker, frozen=True):
    """No source reads any more, and all they gave is in the spool."""


class Spooled(FromWorker, frozen=True):
    """Records were appended to the spool since the last Spooled, or had no room there."""

    dropped: int = 0
    """How many had no room."""


class SourceTrouble(FromWorker, frozen=True):
    """A source cannot be read, or can again (`text` empty)."""

    source: str
    text: str


class Counted(FromWorker, frozen=True):
    """What was seen of the candidate, with that of which Mirror told."""

    counts: Counts


class Pong(FromWorker, frozen=True):
    """The answer to Ping."""


AnyToWorker = (
    Start
    | RunCheck
    | Accept
    | Hold
    | StartSources
    | StopSources
    | Mirror
    | StopMirror
    | Ping
    | Stop
)
AnyFromWorker = (
    Warming
    | Loaded
    | Failed
    | Checked
    | Accepting
    | Held
    | SourcesStopped
    | Spooled
    | SourceTrouble
    | Counted
    | Pong
)

LENGTH_BYTES = 4


def encode(message: ToWorker | FromWorker) -> bytes:
    """Return one frame."""
    body = msgspec.msgpack.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body
