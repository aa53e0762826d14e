"""What `packhorse simulate` and the processes that hold its devices tell each other: lines of JSON.

command ─► process    one Fleet; STORM: the site has no power for a moment; CALM: no more faults;
                      its standard input ends: leave
process ─► command    Count now and then, at the end one Outcome for each device
"""

import msgspec

from runtime.digests import Digest

LATENCY, LOSS, CUT = "latency", "loss", "cut"
REBOOT, FAILING_CHECK, SLOW_DISK = "reboot", "failing-check", "slow-disk"
SATELLITE, THIRD_GENERATION, OFF_ON = "satellite", "3g", "off-on"
DISK_FULL, CLOCK_JUMP, REBOOT_STORM = "disk-full", "clock-jump", "reboot-storm"
LINES = (LATENCY, LOSS, SATELLITE, THIRD_GENERATION, CUT, OFF_ON)
PROFILES = (*LINES, REBOOT, REBOOT_STORM, FAILING_CHECK, SLOW_DISK, DISK_FULL, CLOCK_JUMP)
"""What can be wrong with a simulated device."""
TIMED = frozenset({CUT, OFF_ON, REBOOT, DISK_FULL, CLOCK_JUMP})
"""What happens now and then, and to every device with the profile at least once."""

TRY_PARTS = 4
"""Parts of a second in which attempts to connect are counted."""
CALM, STORM = b"calm\n", b"storm\n"


class Member(msgspec.Struct, frozen=True):
    """One simulated device."""

    name: str
    directory: str
    """Holds identity.json and identity/, as a real device's data directory does."""
    profiles: tuple[str, ...] = ()
    token: str = ""
    """With it, the device enrols first."""


class Fleet(msgspec.Struct, frozen=True):
    """The devices of one process."""

    members: tuple[Member, ...]
    registry_url: str
    place: str
    """For what it downloads; whoever starts the process removes it."""
    seed: int = 0
    heartbeat_s: float = 30.0
    connect_spread_s: float = 0.0
    """The first connections come within this time, evenly spread."""
    rate_kbps: int = 20_000
    """How fast a simulated download is."""
    records_per_s: float = 0.0
    """How many predictions each device makes and tells of."""


class Count(msgspec.Struct, frozen=True, tag="count"):
    """How a process's devices are now."""

    devices: int
    connected: int
    running: dict[Digest, int]
    """By the bundle that answers inference and is the one wanted."""
    ran: dict[Digest, int]
    """The same, now or at some time before."""
    failed: int
    """Devices with a module that has been refused."""
    generations: dict[int, int]
    """How many devices have durably taken over which generation."""
    messages: int
    connects: int
    met: int = 0
    """Devices that were connected at some time."""
    waiting: int = 0
    """Records that the registry has not acknowledged."""
    tries: dict[int, int] = {}
    """How many attempts to connect were due in each part of a second (TRY_PARTS), by the clock that
    all processes of a machine share; of the last minute."""
    spared: int = 0
    """Devices to which something of TIMED has not happened that shall."""


class Outcome(msgspec.Struct, frozen=True, tag="outcome"):
    """How one device ended."""

    name: str
    profiles: tuple[str, ...]
    generation: int
    running: Digest | None
    wanted: Digest | None
    phase: str
    reason: str
    connects: int
    faults: dict[str, int]
    """How often something of each of its profiles happened to it."""
    messages: int
    sent_bytes: int
    received_bytes: int
    downloaded_bytes: int
    records: int = 0
    """How many predictions it has kept to tell of."""
    records_waiting: int = 0
    """How many of them the registry has not acknowledged."""
    records_dropped: int = 0
    """How many it had no room for."""


class Trouble(msgspec.Struct, frozen=True, tag="trouble"):
    """Why a process cannot go on."""

    text: str


def line(message: msgspec.Struct) -> bytes:
    """Return a message as a line."""
    return msgspec.json.encode(message) + b"\n"
