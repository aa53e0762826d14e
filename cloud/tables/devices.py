"""Devices, and the rights that let them in."""

from typing import Any

from sqlalchemy import JSON, Column, Text
from sqlmodel import Field, SQLModel

from cloud.tables.naming import WIDE


class Device(SQLModel, table=True):
    """One box that has enrolled."""

    __tablename__ = "device"

    id: str = Field(primary_key=True)
    labels: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """Set by operators."""
    facts: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """Told by the device."""
    created_at: float
    certificate_serial: str
    """Hexadecimal."""
    certificate_not_after: float
    revoked_at: float | None = None
    online: bool | None = None
    """What its last presence message said; None: there was none."""
    lease_s: float | None = None
    last_seen: float | None = None
    """When anything came from it, registry clock."""
    reported: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON, nullable=True))
    """The newest `runtime.messages.Reported` as plain values."""
    reported_at: float | None = None
    """When that came, registry clock."""
    reported_generation: int = Field(default=0, sa_column=Column(WIDE, nullable=False))
    revision: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    """Rises with each change by an operator."""


class Certificate(SQLModel, table=True):
    """A certificate that was given to a device; only the one its device row names is good."""

    __tablename__ = "certificate"

    serial: str = Field(primary_key=True)
    """Hexadecimal."""
    device: str = Field(foreign_key="device.id", index=True)
    pem: str = Field(sa_column=Column(Text, nullable=False))
    """As the device got it; gives it the same answer again if the first was lost."""
    issued_at: float
    not_after: float


class EnrolmentToken(SQLModel, table=True):
    """A right to enrol once. The token itself is shown once and never stored."""

    __tablename__ = "enrolment_token"

    sha256: str = Field(primary_key=True)
    labels: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    device: str | None = None
    """The only id it may enrol; it may then also replace that device's certificate."""
    created_at: float
    created_by: str
    expires_at: float
    used_at: float | None = None
    used_by: str | None = Field(default=None, foreign_key="device.id")
