"""Plans, before anything moves, and explanations, of what runs and what does not."""

from cloud.schema import Answer


class Obstacle(Answer):
    """Why devices of a plan would not get it, or not soon."""

    kind: str
    """"target", "wave", "conflict", "superseded", "variant", "budget", "bytes", "metered", "disk",
    "offline"."""
    device: str
    """"": not of one device."""
    text: str


class PlannedModule(Answer):
    """What a module would cost, or the candidate beside it."""

    module: str
    """Its name; "NAME candidate" for a candidate."""
    model: str
    version: int
    bundle: str
    bytes_by_encoding: dict[str, int]
    """Over all devices that have to fetch something; "zstd" whole, "delta" where one is ready."""
    fetching: int
    """How many devices have to fetch something."""
    disk_bytes: int
    """What it takes on a device, unpacked."""


class Plan(Answer):
    """What a document would do, before anything moves."""

    name: str
    devices: int
    by_presence: dict[str, int]
    waves: list[int]
    """How many devices each wave would have now."""
    modules: list[PlannedModule]
    obstacles: list[Obstacle]
    expected_s: float | None
    """How long it takes if all goes well; None: it does not end by itself as things are."""
    expected: str
    """What that rests on: what was measured, and what had to be assumed."""


class Claim(Answer):
    """A deployment that wants a module of a device."""

    deployment: str
    rollout: str | None
    name: str
    priority: int
    model: str
    version: int
    standing: str
    """"decides", "conflict", "outdone", or the device's standing in the rollout."""
    reason: str
    age_s: float


class ModuleAnswer(Answer):
    """Why a module of a device is as it is."""

    module: str
    running: str
    """NAME:VERSION as last reported; "nothing", or "unknown"."""
    wanted: str
    """NAME:VERSION, or "nothing"."""
    verdict: str
    reason: str
    age_s: float | None
    claims: list[Claim]


class Explanation(Answer):
    """Why a device runs what it runs, and what blocks the next."""

    device: str
    presence: str
    presence_reason: str
    age_s: float | None
    """Since the last report."""
    healthy: bool
    """False whenever anything is unknown."""
    modules: list[ModuleAnswer]
