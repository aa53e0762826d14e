"""Who may ask, who did what when, and what ran where."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from cloud.tables.naming import ROW_ID

OPEN = text("until_at IS NULL")


class ApiKey(SQLModel, table=True):
    """Who may use the API. The key itself is shown once and never stored."""

    __tablename__ = "api_key"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    sha256: str = Field(unique=True)
    created_at: float
    revoked_at: float | None = None
    role: str = "viewer"
    """"viewer", "operator" or "admin": see cloud.registry.roles."""


class Event(SQLModel, table=True):
    """Who did what when. Rows are only ever added; a trigger refuses anything else."""

    __tablename__ = "event"
    __table_args__ = (Index("ix_event_subject_kind", "subject", "kind", "id"),)

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True))
    """Rises in the order of commits: who has seen 7 has missed nothing below."""
    at: float
    actor: str
    """"key:admin", "device:dev-1" or "registry"."""
    kind: str
    """"version.registered", "deployment.created", "device.enrolled"..."""
    subject: str = Field(index=True)
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class Run(SQLModel, table=True):
    """What answered inference as one module of one device, from when to when.

    Times are the device's where they can be right, else those of the reports that told. A row is
    added, and closed once; a trigger refuses anything else.
    """

    __tablename__ = "run"
    __table_args__ = (
        Index("ix_run_open", "device", "module", unique=True, sqlite_where=OPEN,
              postgresql_where=OPEN),
        Index("ix_run_device", "device", "from_at"),
        Index("ix_run_model", "model", "version", "from_at"),
        Index("ix_run_deployment", "deployment"),
    )  # fmt: skip

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True))
    device: str
    module: str
    model: str
    version: int
    bundle: str
    deployment: str | None = None
    """That had it started; None: not known."""
    actor: str | None = None
    """Who made that deployment; None: not known."""
    from_at: float
    from_estimated: bool = False
    """It is when the registry heard of it: the device had no clock to say since when."""
    until_at: float | None = None
    until_estimated: bool = False
    """As `from_estimated`."""
    ended_reason: str = ""


class IdempotencyKey(SQLModel, table=True):
    """A request that was done, and what was answered: see cloud.api.idempotency."""

    __tablename__ = "idempotency_key"

    actor: str = Field(primary_key=True)
    key_sha256: str = Field(primary_key=True)
    fingerprint: str
    """SHA-256 of method, path, query and body."""
    created_at: float = Field(index=True)
    status: int
    headers: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    body: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    """Sealed; None: it was too large to keep."""


class Webhook(SQLModel, table=True):
    """Who is told of events, and how far."""

    __tablename__ = "webhook"

    id: str = Field(primary_key=True)
    url: str
    kinds: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    """"deployment.created", "deployment.*"; none: all."""
    description: str = ""
    active: bool = Field(default=True, index=True)
    secret: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """Sealed."""
    created_at: float
    created_by: str
    revision: int = 1
    cursor: int = Field(sa_type=BigInteger)
    """Id of the newest event that is done with: delivered, dead, or not wanted."""
    attempts: int = 0
    """In a row, in vain."""
    next_at: float = 0.0
    """Not before this is the next attempt made."""
    failing_since: float | None = None
    disabled_reason: str = ""
    """Why the registry set `active` to false; empty: it did not."""


class Delivery(SQLModel, table=True):
    """One attempt to tell a webhook of an event. The newest are kept."""

    __tablename__ = "delivery"
    __table_args__ = (Index("ix_delivery_webhook", "webhook", "id"),)

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True))
    webhook: str = Field(foreign_key="webhook.id")
    event: int = Field(sa_type=BigInteger)
    """0: a test."""
    at: float
    attempt: int
    outcome: str
    """"delivered", "failed" or "dead"."""
    status: int | None = None
    """Of the HTTP answer; None: there was none."""
    took_ms: float
    detail: str = ""
    """The beginning of the answer's body, or why there was none."""


class DeadLetter(SQLModel, table=True):
    """An event that a webhook could not be told of in time, until it is replayed."""

    __tablename__ = "dead_letter"

    webhook: str = Field(primary_key=True, foreign_key="webhook.id")
    event: int = Field(
        sa_column=Column(BigInteger, primary_key=True, autoincrement=False, nullable=False)
    )
    at: float
    queued: bool = False
    """It was asked to be replayed, and is tried once more."""
