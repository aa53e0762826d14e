"""The history, and the registry itself."""

from typing import Any, Literal

from pydantic import Field

from cloud.schema import Answer


class Event(Answer):
    """A line of the history."""

    id: int = Field(examples=[7])
    at: float
    actor: str = Field(examples=["key:admin"])
    """"key:admin", "device:dev-1" or "registry"."""
    kind: str = Field(examples=["deployment.created"])
    """docs/specs/events.md lists them."""
    subject: str = Field(examples=["dep-3xkq2mzp"])
    data: dict[str, Any]


class Run(Answer):
    """What answered inference as one module of one device, from when to when."""

    id: int
    device: str
    module: str
    model: str
    version: int
    bundle: str
    deployment: str | None
    """That had it started; None: not known."""
    actor: str | None
    """Who made that deployment; None: not known."""
    from_at: float
    from_estimated: bool
    """It is when the registry heard of it."""
    until_at: float | None
    """None: nothing else was heard."""
    until_estimated: bool
    ended_reason: str
    last_heard: float | None
    """When the device was last heard from, if the run has no end."""


class Moment(Answer):
    """What is known of one device at one time."""

    device: str
    at: float
    heard: Literal["heard", "silent", "never"]
    """silent: it was not heard from at that time; `runs` is what it had said before. never: not by
    then, so that nothing is known."""
    last_heard: float | None
    """Of a silent device: when, before `at`."""
    runs: list[Run]
    """None of them and heard: nothing ran."""


class Health(Answer):
    """Whether the registry does its work."""

    status: str
    """ok or failing."""
    duties: dict[str, bool]
