"""Models, versions and what a bundle needs."""

from sqlalchemy import JSON, BigInteger, Column
from sqlmodel import Field, SQLModel


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
