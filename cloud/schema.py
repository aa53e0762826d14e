"""What all requests and answers of the HTTP API have in common.

Requests forbid fields that are not listed: a mistyped one is told, not ignored. Answers ignore
them when they are read, so that an older client understands a newer registry.
"""

from typing import Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.errors import InvalidError

Item = TypeVar("Item")


class Request(BaseModel):
    """What a client sends."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def make(cls, **fields: object) -> Self:
        """Return one of these, for a client; raise InvalidError naming the first wrong field."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InvalidError(field, first["input"], first["msg"]) from error


class Answer(BaseModel):
    """What the registry sends."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Page(Answer, Generic[Item]):
    """A part of a list; `next` is the cursor of the part behind it, None at the end."""

    items: list[Item]
    next: str | None = None
