"""Logins to image registries on their way to one device, within its desired state.

The registry seals them to the key of the device's certificate: what travels, and what a broker
keeps, only that device can read.
"""

import msgspec

from runtime import sealing
from runtime.errors import InvalidError

MAX_PASSWORD_BYTES = 16 * 1024
"""Tokens of clouds' own image registries have up to 4 KB."""
MAX_SEALED_CHARS = 128 * 1024


class Login(msgspec.Struct, frozen=True):
    """A name and its password."""

    username: str
    password: str

    def __repr__(self) -> str:
        """Show who, never the password."""
        return f"Login({self.username!r})"


class ImageLogins(msgspec.Struct, frozen=True):
    """All logins that a device has from its registry."""

    made: str
    """Another one whenever what is sealed is."""
    sealed: str


def seal(logins: dict[str, Login], certificate_pem: bytes, made: str) -> ImageLogins:
    """Return logins, by image registry, for the holder of a certificate's key alone."""
    sealed = sealing.seal(msgspec.json.encode(logins), certificate_pem)
    if len(sealed) > MAX_SEALED_CHARS:
        raise InvalidError(
            "image_logins", f"{len(sealed)} characters for one device", "give it fewer logins"
        )
    return ImageLogins(made, sealed)


def unseal(given: ImageLogins, key_pem: bytes) -> dict[str, Login]:
    """Return what was sealed for our key; raise InvalidError if it was not."""
    if len(given.sealed) > MAX_SEALED_CHARS:
        raise InvalidError("image_logins", f"{len(given.sealed)} characters", "send fewer")
    data = sealing.unseal(given.sealed, key_pem)
    try:
        return msgspec.json.decode(data, type=dict[str, Login])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Without its content: it may be a password.
        raise InvalidError("image_logins", f"{len(data)} bytes", "they cannot be read") from error
