"""The model repository: which models are served, and over HTTP, if the server lets clients, which.

POST /v2/repository/index                        {"ready": true}: only those that can be asked
POST /v2/repository/models/{name}/load, /unload
"""

import http
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from runtime.errors import InvalidError
from runtime.serving.dataplane import DataPlane
from runtime.serving.rest.known import Known
from runtime.serving.wire import answers
from runtime.serving.wire.answers import Answer
from runtime.serving.wire.bodies import Body
from runtime.serving.wire.errors import RefusedError

READY = "READY"


class Entry(Protocol):
    """One version of a model, and what has become of it."""

    @property
    def name(self) -> str:
        """The model's."""
        ...

    @property
    def version(self) -> str:
        """Its version."""
        ...

    @property
    def state(self) -> str:
        """READY, LOADING, UNLOADING or UNAVAILABLE."""
        ...

    @property
    def reason(self) -> str:
        """Why it is not READY; "" if there is nothing to say."""
        ...


class Repository(Protocol):
    """Where models may be loaded from while the server runs."""

    def index(self) -> Sequence[Entry]:
        """Return all that is there."""
        ...

    async def load(self, name: str) -> None:
        """Serve what lies there now; raise UnknownModelError or ModelError."""
        ...

    async def unload(self, name: str) -> None:
        """Serve a model no longer; raise UnknownModelError."""
        ...


class _Asked(msgspec.Struct, frozen=True):
    """The body of any of these requests; it may be empty."""

    ready: bool = False
    parameters: dict[str, Any] = {}


_DECODER = msgspec.json.Decoder(_Asked)


class Changes:
    """Answers for the repository."""

    def __init__(self, plane: DataPlane, repository: Repository | None) -> None:
        self._plane, self._repository = plane, repository

    def index(self, _known: Known, body: bytes | Body) -> Answer:
        """List what can be asked, and what could be if it were loaded."""
        asked = _asked(body)
        if self._repository is None:
            told = [_told(s.name, s.version, READY) for s in self._plane.served]
        else:
            told = [
                _told(e.name, e.version, e.state, e.reason)
                for e in self._repository.index()
                if not asked.ready or e.state == READY
            ]
        return answers.json(msgspec.json.encode(told))

    def load(self, known: Known, body: bytes | Body) -> Coroutine[Any, Any, Answer]:
        """Serve a model of the repository, as it lies there."""
        _require_plain(_asked(body).parameters, ())
        return self._change(self._require().load(known.place.name or ""))

    def unload(self, known: Known, body: bytes | Body) -> Coroutine[Any, Any, Answer]:
        """Serve a model no longer."""
        _require_plain(_asked(body).parameters, ("unload_dependents",))
        return self._change(self._require().unload(known.place.name or ""))

    async def _change(self, change: Coroutine[Any, Any, None]) -> Answer:
        await change
        return answers.json(b"{}")

    def _require(self) -> Repository:
        if self._repository is None:
            raise RefusedError(
                http.HTTPStatus.FORBIDDEN,
                "models are not loaded and unloaded over HTTP here: start the server with"
                " --repository-api",
            )
        return self._repository


def _asked(body: bytes | Body) -> _Asked:
    data = body if isinstance(body, bytes) else body.view
    if not data:
        return _Asked()
    try:
        return _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidError("request", bytes(data[:40]), str(error)) from error


def _require_plain(parameters: Mapping[str, Any], known: Sequence[str]) -> None:
    """Raise InvalidError for a parameter that would be passed over."""
    for name in parameters:
        if name not in known:
            raise InvalidError("parameters", name, "a bundle says itself how it is run: leave it")


def _told(name: str, version: str, state: str, reason: str = "") -> dict[str, str]:
    return {"name": name, "version": version, "state": state, "reason": reason}
