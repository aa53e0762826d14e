"""What is known of blobs, beside their bytes: see cloud.storage.presence."""

from sqlalchemy import BigInteger, false
from sqlmodel import Field, SQLModel


class Blob(SQLModel, table=True):
    """A blob whose bytes are in the store."""

    __tablename__ = "blob"

    sha256: str = Field(primary_key=True)
    size_bytes: int = Field(sa_type=BigInteger)
    touched_at: float = Field(index=True)
    """When it was last uploaded, or a client was told that it need not upload it."""
    deleting: bool = Field(default=False, index=True, sa_column_kwargs={"server_default": false()})
    """Its bytes are about to be deleted, or already are."""


class Collection(SQLModel, table=True):
    """How garbage collection goes: one row, once something was deleted."""

    __tablename__ = "collection"

    id: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    """Always 1."""
    deletions: int = Field(sa_type=BigInteger)
    """Blobs that were deleted so far."""
