"""The registry's tables.

    api_key
    bundle ◄── bundle_blob              device ◄── desired
      ▲                                  ▲ ▲ ▲
    version ──► model                    │ │ └──── certificate
      ▲                                  │ └────── enrolment_token (once used)
    deployment                         batch ◄── record          rejected_batch      event

Times are seconds since 1970 (UTC) as floats, as on the wire. JSON columns hold plain values.
A change here needs a migration in cloud/migrations/versions; a test compares the two.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel

# Named constraints can be altered by later migrations, on SQLite too.
SQLModel.metadata.naming_convention = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

# SQLite numbers rows by itself only in columns that are called INTEGER (which has 64 bits there).
ROW_ID = BigInteger().with_variant(Integer(), "sqlite")


class ApiKey(SQLModel, table=True):
    """Who may use the API. The key itself is shown once and never stored."""

    __tablename__ = "api_key"

    id: int | None = Field(default=None, primary_key=True)
    name: str = Field(unique=True)
    sha256: str = Field(unique=True)
    created_at: float
    revoked_at: float | None = None


class Bundle(SQLModel, table=True):
    """One immutable set of files, named by the digest of its index. The index is a blob."""

    __tablename__ = "bundle"

    digest: str = Field(primary_key=True)
    kind: str
    size_bytes: int = Field(sa_type=BigInteger)
    """Of all its files."""
    created_at: float


class BundleBlob(SQLModel, table=True):
    """Which blobs a bundle needs, its index among them."""

    __tablename__ = "bundle_blob"

    bundle: str = Field(primary_key=True, foreign_key="bundle.digest")
    blob: str = Field(primary_key=True, index=True)
    size_bytes: int = Field(sa_type=BigInteger)


class Model(SQLModel, table=True):
    """A name with versions."""

    __tablename__ = "model"

    name: str = Field(primary_key=True)
    created_at: float


class Version(SQLModel, table=True):
    """A numbered bundle of a model: 1, 2, 3... without gaps."""

    __tablename__ = "version"

    model: str = Field(primary_key=True, foreign_key="model.name")
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    bundle: str = Field(foreign_key="bundle.digest", index=True)
    created_at: float
    created_by: str
    description: str = ""
    tags: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


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
    reported_generation: int = 0


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


class Deployment(SQLModel, table=True):
    """A wish: this version, on every device that the selector matches, now or later."""

    __tablename__ = "deployment"

    sequence: int | None = Field(default=None, primary_key=True)
    """Newest wins, per device and module."""
    id: str = Field(unique=True)
    name: str = ""
    model: str = Field(foreign_key="model.name")
    version: int
    bundle: str = Field(foreign_key="bundle.digest", index=True)
    module: str
    selector: str
    sources: list[str] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    capture: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    """A `runtime.messages.Capture` as plain values."""
    soak_s: float
    attempt: int = 0
    created_at: float
    created_by: str
    cancelled_at: float | None = Field(default=None, index=True)


class Desired(SQLModel, table=True):
    """What one device shall run: the message as it is published, retained."""

    __tablename__ = "desired"

    device: str = Field(primary_key=True, foreign_key="device.id")
    generation: int
    body: str = Field(sa_column=Column(Text, nullable=False))
    """A `runtime.messages.Desired`, encoded."""
    published_generation: int = 0
    """The newest generation that the broker has taken."""


class Batch(SQLModel, table=True):
    """A batch of telemetry that is durable here. Each number is kept once."""

    __tablename__ = "batch"
    __table_args__ = (UniqueConstraint("device", "epoch", "sequence"),)

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True))
    device: str = Field(foreign_key="device.id")
    epoch: str
    sequence: int = Field(sa_type=BigInteger)
    sent_at: float
    received_at: float
    records: int
    size_bytes: int
    """As it travelled."""


class Record(SQLModel, table=True):
    """One prediction. Columns as in `runtime.batches.Record`, but its position and kind."""

    __tablename__ = "record"
    __table_args__ = (
        UniqueConstraint("batch_id", "place"),
        Index(None, "model", "version"),
    )

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True))
    """Rises in the order of arrival: the cursor of `telemetry tail`."""
    batch_id: int = Field(sa_type=BigInteger, foreign_key="batch.id")
    place: int
    """0-based, in its batch."""
    device: str
    at: float
    time_estimated: bool = False
    """`at` was worked out from the time of arrival: the device's clock could not be right."""
    module: str
    bundle: str
    model: str
    version: int
    latency_ms: float
    outputs: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    inputs: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON(none_as_null=True)))
    request: str | None = None
    source: str | None = None
    item: str | None = None
    error: str | None = None
    kind: str


class RejectedBatch(SQLModel, table=True):
    """A batch that could not be read, kept for a person to look at."""

    __tablename__ = "rejected_batch"

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True))
    device: str = Field(index=True)
    epoch: str | None = None
    sequence: int | None = Field(default=None, sa_type=BigInteger)
    received_at: float
    reason: str
    payload: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


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
