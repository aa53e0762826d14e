"""Devices and how they are let in."""

from typing import Annotated, Literal

from pydantic import Field

from cloud.schema import Answer, Request
from cloud.shapes.candidates import CandidateState
from cloud.shapes.words import Labels, ShortText


class NewToken(Request):
    """Asks for an enrolment token."""

    labels: Labels = Field(default_factory=dict)
    ttl_s: float = Field(default=3600, gt=0, le=7 * 86400)
    device_id: ShortText | None = None
    """The one id that it may enrol; None: any new one."""


class Token(Answer):
    """An enrolment token; this is the only time that it is shown."""

    token: str
    device_id: str | None
    labels: dict[str, str]
    expires_at: float


class Enrol(Request):
    """A device asks to be let in."""

    token: ShortText
    csr: Annotated[str, Field(max_length=16 * 1024)]
    """PEM."""
    device_id: ShortText | None = None
    facts: Labels = Field(default_factory=dict)


class BrokerAddress(Answer):
    """Where to connect to for MQTT."""

    host: str
    port: int


class Enrolled(Answer):
    """A device is let in."""

    device: str
    certificate: str
    """PEM."""
    ca: str
    """PEM."""
    broker: BrokerAddress
    registry_url: str
    certificate_not_after: float


class LabelChanges(Request):
    """Labels to set; None removes one."""

    labels: dict[ShortText, ShortText | None]


class NewCommand(Request):
    """Asks a device to do something now."""

    kind: Literal[
        "check", "logs", "support", "restart", "infer", "exec", "update", "registry-login"
    ]
    module: ShortText = ""
    """Which module; empty: the agent itself."""
    bundle: ShortText | None = None
    """Do it only if this bundle answers inference there."""
    timeout_s: float = Field(default=60, gt=0, le=300)
    options: dict[ShortText, Annotated[str, Field(max_length=8192)]] = Field(
        default_factory=dict, max_length=16
    )
    """What the kind takes: docs/specs/mqtt.md."""


class CommandResult(Answer):
    """What came of a command."""

    ok: bool
    text: str
    """What was measured, or why not."""
    facts: dict[str, str] = Field(default_factory=dict)
    """What programs may want to read of it."""
    data: str = ""
    """What was asked for, in base64: logs as gzip, an archive, what a program printed."""


class Running(Answer):
    """What answers inference on a device."""

    bundle: str
    model: str
    version: int


class Transfer(Answer):
    """What a bundle's way to a device has cost."""

    received_bytes: int
    """Came over the network for it."""
    whole_bytes: int
    """The encoded bytes that it would have taken without deltas."""
    neighbour_bytes: int = 0
    """Came from devices of the same site, and counts as nothing received."""


class ModuleState(Answer):
    """A module, as its device reported it."""

    name: str
    phase: str
    model: str
    version: int
    bundle: str
    deployment: str
    since: float
    """Device clock."""
    reason: str = ""
    retrying: bool = False
    restarts: int = 0
    running: Running | None = None
    transfer: Transfer | None = None
    """Of the wanted bundle, once the device has fetched it since its agent started."""
    candidate: CandidateState | None = None
    """What runs beside it, to be measured."""


class Device(Answer):
    """A device."""

    id: str
    labels: dict[str, str]
    facts: dict[str, str]
    presence: str
    """online, offline or unknown."""
    last_seen: float | None
    created_at: float
    revoked_at: float | None
    certificate_not_after: float
    generation: int
    """Of its desired state."""
    reported_generation: int
    reported_at: float | None
    modules: list[ModuleState]
    vitals: dict[str, float]
    drops: dict[str, int]
    troubles: list[str]
