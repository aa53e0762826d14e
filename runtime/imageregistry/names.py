"""Names of images, taken apart.

registry.example:5000/team/camera:2.1@sha256:…
└─ host ────────────┘ └repository┘ tag └ digest
"""

import re

import msgspec

from runtime.errors import InvalidError

DOCKER_HUB = "docker.io"
_HUB_SERVES_AT = "registry-1.docker.io"
_REPOSITORY = re.compile(r"[a-z0-9]+(?:[._-]+[a-z0-9]+)*(?:/[a-z0-9]+(?:[._-]+[a-z0-9]+)*)*")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(?::[0-9]{1,5})?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MOST_CHARS = 400


class ImageName(msgspec.Struct, frozen=True):
    """One image, or many under one tag."""

    host: str
    """Of its image registry, as people write it."""
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def server(self) -> str:
        """Return the host, and perhaps port, that answers for it."""
        return _HUB_SERVES_AT if self.host == DOCKER_HUB else self.host


def host(image: str) -> str:
    """Return the image registry of an image: what stands before the first '/', if it is a host."""
    first, slash, _ = image.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return first if is_host else DOCKER_HUB


def check_host(text: str, field: str) -> str:
    """Return a host as images name it; raise InvalidError otherwise."""
    if not _HOST.fullmatch(text):
        raise InvalidError(field, text, "write HOST or HOST:PORT, as images name it")
    return text


def parse(text: str, field: str = "image") -> ImageName:
    """Return a name taken apart, with the tag `latest` if it has neither; raise InvalidError."""
    where = host(text)
    rest = text.removeprefix(f"{where}/")
    rest, _, digest = rest.partition("@")
    last = rest.rpartition("/")[2]
    tag = last.partition(":")[2]
    repository = rest.removesuffix(f":{tag}") if tag else rest
    if where == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    good = (
        len(text) <= _MOST_CHARS
        and _HOST.fullmatch(where)
        and _REPOSITORY.fullmatch(repository)
        and (not tag or _TAG.fullmatch(tag))
        and (not digest or _DIGEST.fullmatch(digest))
        and ("@" in text) == bool(digest)
    )
    if not good:
        fix = "write it as in registry.example/team/camera:2.1, or with @sha256:…"
        raise InvalidError(field, text, fix)
    return ImageName(where, repository, tag or ("" if digest else "latest"), digest)


def plain(text: str) -> str:
    """Return a name without tag and digest."""
    name = text.partition("@")[0]
    tag = name.rpartition("/")[2].partition(":")[2]
    return name.removesuffix(f":{tag}") if tag else name
