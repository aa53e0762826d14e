"""Deployment documents, and rollouts: how such a document reaches its devices.

The document is what `packhorse deploy -f` reads; docs/specs/rollouts.md says what each field means.
"""

import re
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from cloud.schema import Answer, Request
from cloud.shapes.candidates import ModuleCandidate
from cloud.shapes.deployments import Capture
from cloud.shapes.words import ShortText

MAX_MODULES = 16
MAX_WAVES = 32
MAX_WINDOWS = 16
WHOLE = 100.0
DAY_S = 86400.0
YEAR_S = 366 * DAY_S

Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=YEAR_S)]
_PERCENT = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*%")


def _share(value: object) -> object:
    """Return 20% as the number 20.0."""
    found = _PERCENT.fullmatch(value.strip()) if isinstance(value, str) else None
    return float(found[1]) if found else value


def _unavailable(value: object) -> object:
    """Return a number of devices, or a percentage as text, of what may be one."""
    fix = "give a number of devices from 1 on, or a percentage such as '20%', at most 100%"
    if isinstance(value, str):
        found = _PERCENT.fullmatch(value.strip())
        if found is None or float(found[1]) > WHOLE:
            raise ValueError(fix)
        return f"{float(found[1]):g}%"
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(fix)
    return value


def _failures(value: object) -> object:
    """Return a fraction from 0 to 1, or a number of devices, of what may be one."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    part = isinstance(value, float) and 0 <= value <= 1
    if not whole and not part:
        raise ValueError("give a fraction from 0.0 to 1.0, or a number of devices from 1 on")
    return value


Expression = Annotated[str, Field(min_length=1, max_length=2048)]


class ModuleDownload(Request):
    """What each device may spend on the download of a module; when: `strategy.windows`."""

    budget_bytes: int | None = Field(default=None, gt=0, le=1 << 53)
    """In one attempt; None: any."""
    metered: Literal["", "allow"] = ""
    """allow: also over a link that costs by the byte."""


class ModuleWish(Request):
    """One module of a document."""

    model: ShortText
    """NAME, NAME:VERSION or NAME@ALIAS."""
    follow: bool = False
    """Whether a moved alias makes a new rollout."""
    sources: list[Annotated[str, Field(max_length=1024)]] | None = None
    """None: what the bundle says."""
    capture: Capture = Capture()
    soak_s: float = Field(default=30.0, ge=0, le=DAY_S)
    """How long a device keeps the version before warm."""
    candidate: ModuleCandidate | None = None
    """What runs beside it on each device, to be measured."""
    download: ModuleDownload = ModuleDownload()


class Wave(Request):
    """Some devices that go before the others."""

    count: int | None = Field(default=None, ge=1)
    percent: Annotated[float, BeforeValidator(_share), Field(gt=0, le=WHOLE)] | None = None
    """Of all devices of the rollout: 20, or 20%."""
    selector: Expression | None = None
    gate: Share | None = None
    """None: that of the strategy; so with the next two."""
    soak_s: Seconds | None = None
    timeout_s: Annotated[float, Field(gt=0, le=YEAR_S)] | None = None
    approve: bool = False
    """Whether somebody must approve before it begins."""

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        given = [self.count, self.percent, self.selector]
        if sum(each is not None for each in given) != 1:
            raise ValueError("give one of count, percent and selector")
        return self


class Retry(Request):
    """How often a device that was in time-out while it kept trying gets more time."""

    most: int = Field(default=3, ge=0, le=100)
    backoff_s: Seconds = 60.0
    """Before the first; twice as long before each further one."""


class Budget(Request):
    """How many devices may be unavailable at once."""

    max_unavailable: Annotated[int | str, BeforeValidator(_unavailable)] = 1
    """A percentage is rounded down, but to 1 at least."""
    by: ShortText | None = None
    """The label whose values are counted each by itself; None: all devices together."""


class Window(Request):
    """A time that comes again and again."""

    cron: ShortText
    """When it begins, as five fields of cron."""
    zone: ShortText = "UTC"
    """IANA name, such as Europe/Vienna."""
    for_s: float = Field(gt=0, le=7 * DAY_S)
    """When it ends, hard: seconds after its beginning."""


class Windows(Request):
    """When something may happen; no window: always."""

    update: list[Window] = Field(default_factory=list, max_length=MAX_WINDOWS)
    """When a device may get the new version."""
    download: list[Window] = Field(default_factory=list, max_length=MAX_WINDOWS)
    """When devices download it; each keeps to it by its own clock."""


class Abort(Request):
    """When a rollout stops by itself."""

    failures: Annotated[float | int, BeforeValidator(_failures)] = 0.1
    """A fraction from 0 to 1 with a point (1.0: never), or a number of devices."""
    after_s: Annotated[float, Field(gt=0, le=YEAR_S)] | None = None
    """Stop if it is not complete after so long; None: the time-outs of waves are enough."""
    silence_s: Annotated[float, Field(gt=0, le=YEAR_S)] = 900.0
    """A device that was changed and says nothing for so long has failed."""
    least: int = Field(default=3, ge=1)
    """A fraction counts once so many devices have ended."""


class Strategy(Request):
    """How the document reaches its devices."""

    waves: list[Wave] = Field(default_factory=list, max_length=MAX_WAVES)
    """In this order; what is left over is the last wave."""
    gate: Share = 0.9
    """What fraction of a wave must run it before the next begins."""
    soak_s: Seconds = 0.0
    """How long a wave is watched after its gate was passed."""
    device_timeout_s: Annotated[float, Field(gt=0, le=YEAR_S)] = DAY_S
    wave_timeout_s: Annotated[float, Field(gt=0, le=YEAR_S)] = DAY_S
    retry: Retry = Retry()
    budget: Budget | None = None
    windows: Windows = Windows()
    abort: Abort = Abort()
    on_abort: Literal["revert", "stop"] = "revert"


class DeploymentDocument(Request):
    """What shall run where, and how it gets there."""

    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9][a-z0-9-]*$")]
    """Documents of one name follow one another; those of other names compete by priority."""
    target: Expression
    priority: int = Field(default=0, ge=-1000, le=1000)
    modules: dict[ShortText, ModuleWish] = Field(min_length=1, max_length=MAX_MODULES)
    strategy: Strategy = Strategy()


class RolledModule(Answer):
    """A module of a rollout, and the deployment that stands for it."""

    module: str
    deployment: str
    model: str
    version: int
    alias: str | None
    bundle: str


class RolloutDevice(Answer):
    """Where a device is with a rollout."""

    device: str
    wave: int | None
    """From 0 on; None: not told off for one yet."""
    standing: str
    reason: str
    since: float
    """When that began."""
    retries: int


class Approval(Answer):
    """Somebody let a wave begin, or ended it early."""

    kind: str
    """"approve" or "promote"."""
    wave: int
    by: str
    at: float


class Trouble(Answer):
    """What keeps a rollout from going on although it waits for nobody."""

    what: str
    """"step": what devices should be told cannot be; "follow": of a moved alias no rollout."""
    reason: str
    since: float


class Rollout(Answer):
    """A document on its way to its devices."""

    id: str
    name: str
    target: str
    priority: int
    state: str
    reason: str
    """Why it is in this state."""
    troubles: list[Trouble] = Field(default_factory=list)
    """What is in its way beside that; the registry tries again by itself."""
    since: float
    """When it came into this state."""
    wave: int
    waves: int
    step: str
    """What the wave is doing: "approval", "open", "soaking"."""
    counts: dict[str, int]
    """Devices by standing."""
    modules: list[RolledModule]
    approvals: list[Approval]
    origin: str
    """The rollout or alias that this one was made from by itself or by `rollback`; "": none."""
    created_at: float
    created_by: str
    ended_at: float | None


class RolloutDetail(Answer):
    """A rollout, its document, what holds it up, and its devices by id."""

    rollout: Rollout
    document: DeploymentDocument
    blocked: list[str]
    """What keeps devices of the present wave from being admitted."""
    devices: list[RolloutDevice]
    next: str | None = None


class Order(Request):
    """Tells a rollout what to do."""

    order: Literal["pause", "resume", "promote", "approve", "cancel", "revert"]
    note: ShortText = ""


class Rollback(Request):
    """Asks for the document of an earlier deployment or rollout again."""

    to: ShortText
