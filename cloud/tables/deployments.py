"""What shall run where."""

from typing import Any

from sqlalchemy import JSON, Column, Text
from sqlmodel import Field, SQLModel

from cloud.tables.naming import WIDE


class Deployment(SQLModel, table=True):
    """A wish: this version, on every device that the selector matches, now or later."""

    __tablename__ = "deployment"

    sequence: int | None = Field(default=None, primary_key=True)
    """Newest wins, per device and module."""
    id: str = Field(unique=True)
    name: str = ""
    model: str = Field(foreign_key="model.name")
    version: int
    alias: str | None = None
    """By which the version was named when this was made."""
    bundle: str = Field(index=True)
    """Present as long as this is active."""
    module: str
    selector: str
    sources: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    capture: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """A `runtime.messages.Capture` as plain values, and a `cloud.registry.downloads.Download`."""
    soak_s: float
    candidate: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True))
    )
    """A `runtime.candidates.Candidate` as plain values."""
    attempt: int = 0
    created_at: float
    created_by: str
    cancelled_at: float | None = Field(default=None, index=True)
    revision: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Rises with each change."""
    rollout: str | None = Field(default=None, index=True)
    """Which lets devices in one after the other; None: all at once."""
    priority: int = Field(default=0, sa_column_kwargs={"server_default": "0"})


class Desired(SQLModel, table=True):
    """What one device shall run: the message as it is published, retained."""

    __tablename__ = "desired"

    device: str = Field(primary_key=True, foreign_key="device.id")
    generation: int = Field(sa_column=Column(WIDE, nullable=False))
    body: str = Field(sa_column=Column(Text, nullable=False))
    """A `runtime.messages.Desired`, encoded."""
    published_generation: int = Field(default=0, sa_column=Column(WIDE, nullable=False))
    """The newest generation that the broker has taken."""
