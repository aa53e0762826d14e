"""What searches look through: made by cloud.registry.catalogue from the models' own tables.

    search_word ──► search_text ◄── search_entry_text ──► search_entry ◄── search_fact

An entry is one version, or a model that has none. Nothing here is the only copy of anything.
"""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, String
from sqlmodel import Field, SQLModel

from cloud.tables.naming import ROW_ID

# In the order of code points on every database, whatever its locale: pages and tests rely on it.
WORD = String().with_variant(String(collation="C"), "postgresql")


class SearchEntry(SQLModel, table=True):
    """One version, or (version 0) a model without any."""

    __tablename__ = "search_entry"
    __table_args__ = (
        Index(None, "model", "version", unique=True),
        Index(None, "created_at", "model", "version"),
        Index(None, "updated_at", "model", "version"),
        Index(None, "size_bytes", "model", "version"),
    )

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True))
    model: str = Field(sa_type=WORD)
    version: int
    newest: bool
    """The newest version of its model; a model's only entry is."""
    created_at: float
    updated_at: float
    size_bytes: int = Field(sa_type=BigInteger)


class SearchFact(SQLModel, table=True):
    """A value that an entry has in a field, as queries name it: tag.task, input.x, kind."""

    __tablename__ = "search_fact"
    __table_args__ = (
        Index(None, "field", "value", "entry"),
        Index(None, "field", "number", "entry"),
        {"sqlite_with_rowid": False},
    )

    entry: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("search_entry.id", ondelete="CASCADE"), primary_key=True
        )
    )
    field: str = Field(primary_key=True, sa_type=WORD)
    value: str = Field(primary_key=True, sa_type=WORD)
    number: float | None = None
    """The value, if it is one."""
    inherited: bool = False
    """Said of the model, not of the version."""


class SearchText(SQLModel, table=True):
    """A description or a card; the same one of many versions is here once."""

    __tablename__ = "search_text"

    id: int | None = Field(default=None, sa_column=Column(ROW_ID, primary_key=True))
    sha256: str = Field(unique=True)


class SearchWord(SQLModel, table=True):
    """A word of a text, in small letters."""

    __tablename__ = "search_word"
    __table_args__ = (Index(None, "text"), {"sqlite_with_rowid": False})

    word: str = Field(primary_key=True, sa_type=WORD)
    text: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("search_text.id", ondelete="CASCADE"), primary_key=True
        )
    )


class SearchEntryText(SQLModel, table=True):
    """Which texts speak of an entry: its own and its model's."""

    __tablename__ = "search_entry_text"
    __table_args__ = (Index(None, "entry"), {"sqlite_with_rowid": False})

    text: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("search_text.id", ondelete="CASCADE"), primary_key=True
        )
    )
    entry: int = Field(
        sa_column=Column(
            BigInteger, ForeignKey("search_entry.id", ondelete="CASCADE"), primary_key=True
        )
    )
    inherited: bool = Field(default=False, primary_key=True)
    """Said of the model, not of the version."""
