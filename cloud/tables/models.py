"""Models, versions, and what is said of them."""

from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index, Text
from sqlmodel import Field, SQLModel


class Bundle(SQLModel, table=True):
    """One immutable set of files, named by the digest of its index. The index is a blob.

    It is here as long as a version has it.
    """

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


class BundleUse(SQLModel, table=True):
    """Which registered versions a bundle, such as an ensemble, is made of."""

    __tablename__ = "bundle_use"
    __table_args__ = (Index(None, "model", "version"),)

    bundle: str = Field(primary_key=True, foreign_key="bundle.digest")
    model: str = Field(primary_key=True)
    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})


class Model(SQLModel, table=True):
    """A name with versions.

    The row outlives the model, so that a number, once given, never means something else.
    """

    __tablename__ = "model"

    name: str = Field(primary_key=True)
    created_at: float
    updated_at: float
    description: str = Field(default="", sa_column=Column(Text, nullable=False))
    tags: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    meta: dict[str, str] = Field(
        default_factory=dict, sa_column=Column("metadata", JSON, nullable=False)
    )
    last_number: int = 0
    """The highest that any version ever had."""
    revision: int = 1
    """Rises with every change of the model, its versions and its aliases."""
    deleted_at: float | None = None


class Version(SQLModel, table=True):
    """A numbered bundle of a model: 1, 2, 3... A number is given once."""

    __tablename__ = "version"

    model: str = Field(primary_key=True, foreign_key="model.name")
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    bundle: str = Field(foreign_key="bundle.digest", index=True)
    created_at: float
    created_by: str
    updated_at: float
    description: str = ""
    tags: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    meta: dict[str, str] = Field(
        default_factory=dict, sa_column=Column("metadata", JSON, nullable=False)
    )
    revision: int = 1
    """Rises with every change of what is said of it, its aliases among it."""


class Card(SQLModel, table=True):
    """What people should know of a version, or (version 0) of a model: Markdown."""

    __tablename__ = "card"

    model: str = Field(primary_key=True, foreign_key="model.name")
    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    text: str = Field(sa_column=Column(Text, nullable=False))


class Alias(SQLModel, table=True):
    """A second name of one version, which moves: champion, canary."""

    __tablename__ = "alias"

    model: str = Field(primary_key=True, foreign_key="model.name")
    name: str = Field(primary_key=True)
    version: int
    moved_at: float
    moved_by: str
    revision: int = 1
    """Rises with every move."""


class Lineage(SQLModel, table=True):
    """Where a version comes from. Outlives it: others may come from it in turn."""

    __tablename__ = "lineage"
    __table_args__ = (Index(None, "parent_model", "parent_version"),)

    model: str = Field(primary_key=True)
    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    parent_model: str | None = None
    """Text, no reference: the parent may be deleted."""
    parent_version: int | None = None
    run: str | None = None
    """Id or URI of the training run."""
    code: str | None = None
    """Commit, with its repository if wanted."""
    data: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    """[{"uri": ..., "digest": ...}]"""
    trained_by: str | None = None
    trained_at: float | None = None
    extra: dict[str, str] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    recorded_at: float
    recorded_by: str
