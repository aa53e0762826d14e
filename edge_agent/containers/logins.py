"""Who this device is to image registries: `{data}/registries.json`, readable by the agent alone.

    {"registry.example:5000": {"username": "camera-17", "password": "…"}}

Written by `packhorse-agent registry-login`. It is read anew for each pull, so a password that was
wrong is mended without a restart. What it does not name, the registry's logins may
(edge_agent.fleetlogins), and else Docker's own configuration.
"""

import contextlib
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edge_agent.fleetlogins import FleetLogins
from runtime import files
from runtime.errors import InvalidError
from runtime.imagelogins import Login
from runtime.imageregistry import names

if TYPE_CHECKING:
    from runtime.containers.specs import Credentials

NAME = "registries.json"
MODE = 0o600
MAX_BYTES = 64 * 1024


class Logins:
    """The logins of one device."""

    def __init__(self, data: Path) -> None:
        """Look into the file in `data`."""
        self._path, self._fleet = data / NAME, FleetLogins(data)

    def of(self, image: str) -> "Credentials | None":
        """Return who we are where an image is; None: nobody in particular.

        Raises InvalidError if the file is damaged, or others may read it.
        """
        from runtime.containers.specs import Credentials  # noqa: PLC0415 - only with containers

        host = names.host(image)
        login = self.read().get(host) or self._fleet.read().get(host)
        return None if login is None else Credentials(login.username, login.password)

    def fix(self, image: str) -> str:
        """Return what helps against a registry that does not let us in."""
        host = names.host(image)
        with contextlib.suppress(InvalidError):
            if host not in self.read() and host in self._fleet.read():
                return f"the fleet's login is wrong or expired: `packhorse image-logins set {host}`"
        return (
            f"see `packhorse-agent registry-login {host}` on the device, or"
            f" `packhorse image-logins set {host}`"
        )

    def read(self) -> dict[str, Login]:
        """Return all logins, by registry."""
        try:
            mode = stat.S_IMODE(self._path.stat().st_mode)
            data = self._path.read_bytes()
        except FileNotFoundError:
            return {}
        if mode & 0o077:
            raise InvalidError(NAME, oct(mode), f"it holds passwords: chmod 600 {self._path}")
        try:
            return msgspec.json.decode(data, type=dict[str, Login])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            # Without its content: it may be a password.
            raise InvalidError(NAME, f"{len(data)} bytes", "log in anew") from error

    def write(self, registry: str, login: Login | None) -> None:
        """Keep a login, or forget it."""
        kept: dict[str, Login] = {}
        with contextlib.suppress(InvalidError):
            kept = self.read()
        kept.pop(registry, None)
        if login is not None:
            kept[registry] = login
        files.write_atomic(self._path, msgspec.json.encode(kept), mode=MODE)
