"""Who devices are to image registries."""

from sqlalchemy import Column, LargeBinary, UniqueConstraint
from sqlmodel import Field, SQLModel


class ImageLogin(SQLModel, table=True):
    """One login, for the devices that a selector matches."""

    __tablename__ = "image_login"
    __table_args__ = (UniqueConstraint("host", "selector"),)

    id: int | None = Field(default=None, primary_key=True)
    """Of several for one image registry, a device gets that with the highest."""
    host: str
    """Of the image registry, with its port if it has one, as images name it."""
    selector: str
    username: str
    password: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    """Sealed: see cloud.trust.sealing."""
    created_at: float
    changed_at: float
    changed_by: str
    revision: int = Field(default=1, sa_column_kwargs={"server_default": "1"})
    """Rises with each change by an operator."""
