"""Logins to image registries."""

from typing import Annotated

from pydantic import Field, SecretStr

from cloud.schema import Answer, Request


class NewImageLogin(Request):
    """Asks for a login, or for another password in place of the one that is there."""

    registry: Annotated[str, Field(max_length=259, examples=["registry.example:5000"])]
    """HOST or HOST:PORT, as images name it."""
    selector: Annotated[str, Field(max_length=2048)] = "all"
    """The devices that shall have it."""
    username: Annotated[str, Field(max_length=255)]
    password: Annotated[SecretStr, Field(max_length=16 * 1024)]


class ImageLogin(Answer):
    """A login; its password is never shown."""

    id: int
    registry: str
    selector: str
    username: str
    created_at: float
    changed_at: float
    changed_by: str
