"""Services: versions served in the cloud, and what had traffic when."""

from typing import Any

from sqlalchemy import JSON, Column, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from cloud.tables.naming import ROW_ID, WIDE

OPEN = text("until_at IS NULL")
GOOD = text("revoked_at IS NULL")


class Service(SQLModel, table=True):
    """A wish: these revisions of a service, with these shares of its traffic, at this place.

    The row outlives the service, so that a revision's number never means something else.
    """

    __tablename__ = "service"

    name: str = Field(primary_key=True)
    kind: str
    """"docker" or "kubernetes"."""
    host: str | None = None
    context: str | None = None
    namespace: str | None = None
    port: int | None = None
    bind: str = "127.0.0.1"
    route: dict[str, Any] | None = Field(
        default=None, sa_column=Column(JSON(none_as_null=True), nullable=True)
    )
    """A `cloud.hosting.targets.Route` as plain values."""
    gateway: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """A `cloud.registry.serving.GatewaySettings` as plain values."""
    state: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """A `cloud.hosting.state.State` as plain values."""
    generation: int = Field(sa_column=Column(WIDE, nullable=False))
    """Rises with each change of what the target is told."""
    condition: str = ""
    """What was told last of how it is: "ready" or "degraded"; "": nothing yet."""
    first_number: int = 1
    """Of its first revision; lower ones are of a service that had this name before."""
    last_number: int = 0
    """The highest that any revision ever had."""
    created_at: float
    created_by: str
    updated_at: float
    deleted_at: float | None = Field(default=None, index=True)
    """Since then it is being removed."""
    removed_at: float | None = None
    """Nothing of it is left: the name is free again."""
    revision: int = 1
    """Rises with each change by an operator; not a revision that is served."""


class ServiceRevision(SQLModel, table=True):
    """One revision of a service. All but its scale, and what is found out of it, is immutable."""

    __tablename__ = "service_revision"
    __table_args__ = (Index(None, "model", "version"),)

    service: str = Field(primary_key=True, foreign_key="service.name")
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    model: str
    version: int
    alias: str | None = None
    """By which the version was named when this was made."""
    bundle: str
    resources: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    scale: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    env: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    secrets: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    """Sealed JSON; None: there are none."""
    secret_names: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    node_selector: dict[str, str] = Field(
        default_factory=dict, sa_column=Column(JSON, nullable=False)
    )
    base_image: str | None = None
    """None: the registry's default."""
    image: str | None = None
    """A reference that the target can run; None: it is not there yet."""
    image_digest: str | None = None
    created_at: float
    created_by: str
    failed_reason: str = ""
    """Why it was rolled back; "": it was not, or it was promoted since."""


class ServiceKey(SQLModel, table=True):
    """Who may ask a service. The key itself is shown once and never stored."""

    __tablename__ = "service_key"
    __table_args__ = (
        Index("ix_service_key_good", "service", "name", unique=True, sqlite_where=GOOD,
              postgresql_where=GOOD),
    )  # fmt: skip

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True))
    service: str = Field(foreign_key="service.name")
    name: str
    sha256: str = Field(unique=True)
    per_s: float | None = None
    """Requests a second in the long run; None: no limit."""
    burst: int | None = None
    created_at: float
    created_by: str
    revoked_at: float | None = None


class ServiceRun(SQLModel, table=True):
    """What had which share of a service's traffic, from when to when, as the gateways said.

    A row is added, and closed once; a trigger refuses anything else.
    """

    __tablename__ = "service_run"
    __table_args__ = (
        Index("ix_service_run_open", "service", "revision", unique=True, sqlite_where=OPEN,
              postgresql_where=OPEN),
        Index("ix_service_run_service", "service", "from_at"),
        Index("ix_service_run_model", "model", "version", "from_at"),
    )  # fmt: skip

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True))
    service: str
    place: str
    revision: int
    model: str
    version: int
    bundle: str
    weight: int
    """Percent."""
    actor: str
    """Who made the revision."""
    from_at: float
    until_at: float | None = None
    ended_reason: str = ""
