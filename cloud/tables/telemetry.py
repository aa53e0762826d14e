"""What devices recorded."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel

from cloud.tables.naming import ROW_ID


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
