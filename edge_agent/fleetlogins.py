"""Logins to image registries that come with the desired state, sealed for this device.

    {data}/fleet-registries.json    {"made", "logins"}, readable by the agent alone

They stay for as long as the registry wants them: a login that is changed there is changed here, one
that is removed is removed. What somebody at the device has written comes before them.
"""

import logging
import stat
from pathlib import Path

import msgspec

from runtime import files, imagelogins
from runtime.errors import InvalidError
from runtime.imagelogins import ImageLogins, Login

log = logging.getLogger(__name__)

NAME = "fleet-registries.json"
MODE = 0o600


class _Kept(msgspec.Struct, frozen=True):
    made: str = ""
    logins: dict[str, Login] = {}


class FleetLogins:
    """Of one device."""

    def __init__(self, data: Path) -> None:
        """Keep them in `data`, where the identity is too."""
        self._path, self._key = data / NAME, data / "identity" / "device.key"

    def take(self, given: ImageLogins | None) -> str:
        """Have just these logins from now on; return what is wrong with them, "" if nothing is."""
        try:
            if given is None:
                files.remove(self._path)
            elif self._read().made != given.made:
                logins = imagelogins.unseal(given, self._key.read_bytes())
                kept = msgspec.json.encode(_Kept(given.made, logins))
                files.write_atomic(self._path, kept, mode=MODE)
                log.info("image logins taken over", extra={"registries": sorted(logins)})
        except InvalidError as error:
            return f"image logins: {error}"
        except OSError as error:
            return f"image logins: {error.strerror or error}: make room, or enrol this device"
        return ""

    def read(self) -> dict[str, Login]:
        """Return all logins, by registry; a file that is damaged, or others can read, has none."""
        return self._read().logins

    def _read(self) -> _Kept:
        try:
            if stat.S_IMODE(self._path.stat().st_mode) & 0o077:
                return _Kept()  # it is written anew, and not believed until then
            return msgspec.json.decode(self._path.read_bytes(), type=_Kept)
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):
            return _Kept()
