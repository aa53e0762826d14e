"""ETag, If-Match, If-None-Match: nobody overwrites what somebody else changed meanwhile.

    GET     ETag: "3.9f86d081"       revision 3, and a digest of this very answer
            If-None-Match: "3.9f86d081"   304 while the answer would be the same
    PATCH   If-Match: "3.9f86d081"   done if the revision is still 3, else 412

A revision rises with each change by an operator, and not with what devices report. So an answer
that shows both has an ETag of both, and a change asks for the first part alone.
"""

import hashlib
import re
from typing import Annotated, TypeVar

from fastapi import Depends, Header, Request, Response
from pydantic import BaseModel

from cloud.errors import PreconditionError
from runtime.errors import InvalidError

MAX_HEADER_CHARS = 2048
_TAG = re.compile(r'(?:W/)?"([!#-~]*)"')

Answer = TypeVar("Answer", bound=BaseModel)
ConditionHeader = Annotated[str | None, Header(max_length=MAX_HEADER_CHARS)]


class NotModifiedError(Exception):
    """The client has this answer; not an error, but what ends the route."""

    def __init__(self, etag: str) -> None:
        super().__init__(etag)
        self.etag = etag


class Shown:
    """Gives ETags to answers, and compares If-None-Match with them."""

    def __init__(self, request: Request, response: Response, if_none_match: str | None) -> None:
        self._reading = request.method in {"GET", "HEAD"}
        self._response, self._wanted = response, if_none_match

    def __call__(self, answer: Answer, revision: int) -> Answer:
        """Return the answer, with its ETag; raise NotModifiedError if the client has it."""
        digest = hashlib.sha256(answer.model_dump_json().encode()).hexdigest()[:16]
        etag = f'"{revision}.{digest}"'
        self._response.headers["ETag"] = etag
        known = _tags(self._wanted)
        if self._reading and (f"{revision}.{digest}" in known or "*" in known):
            raise NotModifiedError(etag)
        return answer


class Unchanged:
    """Compares If-Match with what is there."""

    def __init__(self, if_match: str | None) -> None:
        self._given = if_match is not None
        self._wanted = _tags(if_match)
        if self._given and not self._wanted:
            raise InvalidError("If-Match", if_match, "send the ETag of a GET")

    def __call__(self, revision: int) -> None:
        """Raise PreconditionError unless the client meant this revision, or any."""
        if not self._given or "*" in self._wanted:
            return
        if str(revision) not in {tag.partition(".")[0] for tag in self._wanted}:
            raise PreconditionError(revision)


def _tags(header: str | None) -> set[str]:
    if header is None:
        return set()
    return {"*"} if header.strip() == "*" else set(_TAG.findall(header))


def _shown(request: Request, response: Response, if_none_match: ConditionHeader = None) -> Shown:
    return Shown(request, response, if_none_match)


def _answered(request: Request, response: Response) -> Shown:
    return Shown(request, response, None)


def _unchanged(if_match: ConditionHeader = None) -> Unchanged:
    return Unchanged(if_match)


ShownDep = Annotated[Shown, Depends(_shown)]
"""For GET."""
AnsweredDep = Annotated[Shown, Depends(_answered)]
"""For what changes: its answer has an ETag too."""
UnchangedDep = Annotated[Unchanged, Depends(_unchanged)]
"""For PATCH, PUT, DELETE, and POSTs that change one thing."""


def of_not_modified(_request: Request, error: Exception) -> Response:
    """Return 304."""
    assert isinstance(error, NotModifiedError)
    return Response(status_code=304, headers={"ETag": error.etag})
