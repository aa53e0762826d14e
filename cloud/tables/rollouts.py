"""How deployments reach their devices, and who takes care of that."""

from typing import Any

from sqlalchemy import JSON, Column, Index, Text
from sqlmodel import Field, SQLModel


class Rollout(SQLModel, table=True):
    """A deployment document on its way; its modules are `Deployment` rows that name it."""

    __tablename__ = "rollout"
    __table_args__ = (Index("ix_rollout_state", "state"), Index("ix_rollout_name", "name"))

    sequence: int | None = Field(default=None, primary_key=True)
    """The newest of a name is the one that goes on."""
    id: str = Field(unique=True)
    name: str
    document: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    """A `cloud.shapes.DeploymentDocument` as plain values."""
    state: str
    """A `cloud.rollouts.state.State`."""
    wave: int = 0
    step: str
    wave_at: float
    """When the wave's present step began."""
    reason: str = Field(default="", sa_column=Column(Text, nullable=False))
    since: float
    """When it came into this state."""
    approvals: list[dict[str, Any]] = Field(sa_column=Column(JSON, nullable=False))
    """Which waves were approved or promoted, by whom and when."""
    origin: str = ""
    """What it was made from by `rollback`, or whose alias moved."""
    superseded_by: str = ""
    troubles: dict[str, dict[str, Any]] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False, server_default="{}")
    )
    """What keeps it from going on: see `cloud.rollouts.troubles`."""
    created_at: float
    created_by: str
    completed_at: float | None = None
    ended_at: float | None = None
    """When nothing more came of it."""
    revision: int = 0
    """Rises with each change."""


class RolloutDevice(SQLModel, table=True):
    """Where one device is with one rollout."""

    __tablename__ = "rollout_device"
    __table_args__ = (
        Index("ix_rollout_device_device", "device", "rollout"),
        Index("ix_rollout_device_standing", "rollout", "standing"),
    )

    rollout: str = Field(primary_key=True, foreign_key="rollout.id")
    device: str = Field(primary_key=True, foreign_key="device.id")
    standing: str
    """A `cloud.rollouts.state.Standing`."""
    admitted: bool = False
    """Whether its desired state has the rollout's modules."""
    since: float
    wave: int | None = None
    retries: int = 0
    reason: str = Field(default="", sa_column=Column(Text, nullable=False))
    admitted_at: float | None = None
    """When its turn came; None: it has not."""
    not_before: float | None = None
    """From when on it may download; None: it need not wait."""
    not_after: float | None = None


class Lease(SQLModel, table=True):
    """Which of several registries does what only one may do."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    owner: str
    expires_at: float
