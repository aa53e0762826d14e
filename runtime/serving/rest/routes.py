"""Which path means what. Pure: a method and a target, as they came, to a place or a refusal."""

import http
from urllib.parse import unquote_to_bytes

from runtime.serving.wire.errors import RefusedError

READ = ("GET", "HEAD")
MAX_SHOWN = 200

METHODS: dict[str, tuple[str, ...]] = {
    "server": READ,
    "live": READ,
    "server_ready": READ,
    "metadata": READ,
    "model_ready": READ,
    "config": READ,
    "stats": READ,
    "infer": ("POST",),
    "score": ("POST",),
    "openapi": READ,
    "docs": READ,
    "metrics": READ,
    "repository_index": ("POST",),
    "load": ("POST",),
    "unload": ("POST",),
}
"""What there is, and how it is asked for."""
_ALONE = {
    "v2": "server",
    "v2/health/live": "live",
    "v2/health/ready": "server_ready",
    "v2/models/stats": "stats",
    "v2/repository/index": "repository_index",
    "score": "score",
    "metrics": "metrics",
    "openapi.json": "openapi",
    "docs": "docs",
}
_OF_MODEL = {
    "": "metadata",
    "infer": "infer",
    "score": "score",
    "ready": "model_ready",
    "config": "config",
    "stats": "stats",
    "openapi.json": "openapi",
}


class Place:
    """What a request is for."""

    __slots__ = ("kind", "name", "version")

    def __init__(self, kind: str, name: str | None = None, version: str | None = None) -> None:
        self.kind, self.name, self.version = kind, name, version


def find(method: str, target: bytes) -> Place:
    """Return the place; raise RefusedError if there is none, or not for this method."""
    path = _path(target)
    place = _place(path)
    if place is None:
        shown = "/".join(path)[:MAX_SHOWN]
        raise RefusedError(http.HTTPStatus.NOT_FOUND, f"no /{shown} here: start at /v2")
    methods = METHODS[place.kind]
    if method not in methods:
        raise RefusedError(
            http.HTTPStatus.METHOD_NOT_ALLOWED,
            f"{method} is not for this path: use {methods[0]}",
            b"allow: %b\r\n" % ", ".join(methods).encode(),
        )
    return place


def _place(path: list[str]) -> Place | None:
    kind = _ALONE.get("/".join(path))
    if kind is not None:
        return Place(kind)
    match path:
        case ["v2", "repository", "models", name, ("load" | "unload") as what]:
            return Place(what, name)
        case ["v2", "models", name, "versions", version, *rest]:
            return _of_model(name, version, rest)
        case ["v2", "models", name, *rest]:
            return _of_model(name, None, rest)
    return None


def _of_model(name: str, version: str | None, rest: list[str]) -> Place | None:
    kind = _OF_MODEL.get("/".join(rest))
    return None if kind is None else Place(kind, name, version)


def _path(target: bytes) -> list[str]:
    """Return the parts of a target's path, each decoded after they were parted."""
    if not target.startswith(b"/"):  # the absolute form, which a proxy may send: RFC 9112, 3.2.2
        target = b"/" + target.partition(b"://")[2].partition(b"/")[2]
    path = target.partition(b"?")[0].partition(b"#")[0].strip(b"/")
    try:
        return [unquote_to_bytes(part).decode() for part in path.split(b"/")]
    except UnicodeDecodeError as error:
        raise RefusedError(http.HTTPStatus.BAD_REQUEST, "the path is no UTF-8") from error
