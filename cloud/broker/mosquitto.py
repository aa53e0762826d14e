"""Mosquitto on the files shipped in `deploy/mosquitto`, with paths and port of one's own; pure.

Nothing else about those files is changed here, so what runs in the tests is what is shipped.
"""

from collections.abc import Mapping
from pathlib import Path

from cloud.trust.authority import Authority
from runtime.errors import InvalidError


def values(
    authority: Authority, *, host: str, port: int, acl: Path, state: Path, user: str
) -> dict[str, str]:
    """Return the settings that differ from one installation to the next.

    `state` is the directory of retained messages and sessions; Mosquitto, when started as root,
    becomes `user` before it reads any of these files.
    """
    return {
        "user": user,
        "listener": f"{port} {host}",
        "cafile": str(authority.ca_file),
        "certfile": str(authority.server_cert_file),
        "keyfile": str(authority.server_key_file),
        "crlfile": str(authority.crl_file),
        "acl_file": str(acl),
        "persistence_location": f"{state}/",
    }


def configured(shipped: str, values: Mapping[str, str]) -> str:
    """Return the shipped mosquitto.conf with these settings' values put in.

    Raises InvalidError if a setting does not stand there exactly once, or cannot be written.
    """
    lines = shipped.splitlines()
    for name, value in values.items():
        if any(char < " " for char in value):
            raise InvalidError(name, value, "give a value without line breaks")
        places = [at for at, line in enumerate(lines) if line.split(" ")[0] == name]
        if len(places) != 1:
            raise InvalidError("mosquitto.conf", name, "this setting must stand there once")
        lines[places[0]] = f"{name} {value}"
    return "\n".join(lines) + "\n"
