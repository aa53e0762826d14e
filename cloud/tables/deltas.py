"""What became of making blobs smaller on their way."""

from sqlalchemy import BigInteger, Column, Text
from sqlmodel import Field, SQLModel


class Encoding(SQLModel, table=True):
    """One way of sending one blob. The bytes themselves are in the object store."""

    __tablename__ = "encoding"

    blob: str = Field(primary_key=True)
    encoding: str = Field(primary_key=True)
    base: str = Field(primary_key=True)
    """The blob on which it builds; "": none."""
    state: str
    """"making" (or it died while it did), "ready", "useless" (it saves nothing) or "failed"."""
    size_bytes: int = Field(default=0, sa_type=BigInteger)
    """As it travels."""
    memory_bytes: int = Field(default=0, sa_type=BigInteger)
    """What decoding it takes, beside the decoder itself."""
    tries: int = 0
    """How often making it was begun."""
    reason: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))
    """Why it failed."""
    made_at: float
    used_at: float
    """When it was last offered to a device, to within a minute."""
