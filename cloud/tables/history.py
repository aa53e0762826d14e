"""Who may ask, and who did what when."""

from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel

from cloud.tables.naming import ROW_ID


class ApiKey(SQLModel, table=True):
    """Who may use the API. The key itself is shown once and never stored."""

    __tablename__ = "api_key"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    sha256: str = Field(unique=True)
    created_at: float
    revoked_at: float | None = None


class Event(SQLModel, table=True):
    """Who did what when. Rows are only ever added."""

    __tablename__ = "event"

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True))
    at: float
    actor: str
    """"key:admin", "device:dev-1" or "registry"."""
    kind: str
    """"version.registered", "deployment.created", "device.enrolled"..."""
    subject: str = Field(index=True)
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
