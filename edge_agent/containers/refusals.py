"""What the engine says no with, in words of the bundle: the field, its value, and what to do.

What is not known here stays in the engine's own words.
"""

import contextlib
import re
from collections.abc import Iterator

from runtime.bundle.containers import Container
from runtime.containers.errors import EngineRefusedError
from runtime.errors import InvalidError

_MISSING_DEVICE = re.compile(r"(?:device \"|stat )(/dev/[^\":]+)\"?: no such file or directory")
_MISSING_PATH = re.compile(r"bind source path does not exist: (\S+)")
_TAKEN_PORT = re.compile(
    r"(?:Bind for |listen (?:tcp|udp)\d? )\S*?:(\d+)(?: failed)?: .*already (?:allocated|in use)"
)
_CLOSED_PORT = re.compile(r"listen (?:tcp|udp)\d? \S*?:(\d+): bind: permission denied")
_MISSING_PROGRAM = re.compile(r"exec: \"([^\"]+)\": (?:executable file not found|stat |permission)")
_MISSING_USER = re.compile(r"unable to find (?:user|group) ([^\s:]+)")
_KNOWN = (
    (
        _TAKEN_PORT,
        "ports.host",
        "another program of this device has this port: end it, or publish another",
    ),
    (_CLOSED_PORT, "ports.host", "this engine may not open it: publish one above 1023"),
    (
        _MISSING_DEVICE,
        "devices",
        "this device has none: plug it in, or deploy to devices that have one",
    ),
    (_MISSING_PATH, "volumes.host", "this device has no such path: make it, then try again"),
    (_MISSING_PROGRAM, "command", "the image has no such program: name one that is in it"),
    (_MISSING_USER, "user", "the image has no such user: write a number, or leave it out"),
)
_NO_GPU = "could not select device driver"


@contextlib.contextmanager
def explained(each: Container) -> Iterator[None]:
    """Raise InvalidError in place of what the engine says of a container, if it is known."""
    try:
        yield
    except EngineRefusedError as error:
        found = explain(each, error.said)
        if found is None:
            raise
        raise found from error


def explain(each: Container, said: str) -> InvalidError | None:
    """Return what is wrong with a container by the engine's words; None: they say it best."""
    field = f"containers.{each.name}"
    if _NO_GPU in said:
        fix = "the engine gives containers no GPU: install NVIDIA's container toolkit, or leave out"
        return InvalidError(f"{field}.gpu", each.gpus, fix)
    for pattern, key, fix in _KNOWN:
        if match := pattern.search(said):
            return InvalidError(f"{field}.{key}", match.group(1), fix)
    return None


def require(each: Container, *, limits_memory: bool, gives_gpus: bool) -> None:
    """Raise InvalidError for what this device's engine would leave out without a word."""
    field = f"containers.{each.name}"
    if each.memory_mb is not None and not limits_memory:
        fix = (
            "this device's kernel limits no memory: on a Raspberry Pi write cgroup_enable=memory"
            " into cmdline.txt and start it anew, or leave the limit out"
        )
        raise InvalidError(f"{field}.resources.memory_mb", each.memory_mb, fix)
    if each.gpus and not gives_gpus:
        fix = "Podman gives no GPU this way: use Docker with NVIDIA's container toolkit"
        raise InvalidError(f"{field}.gpu", each.gpus, fix)
