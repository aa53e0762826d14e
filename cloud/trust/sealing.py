"""Secrets that the registry must read again: kept in the database, of no use without a file.

A webhook's secret signs each message, so a hash will not do. It is stored encrypted (AES-256-GCM)
with a key that lies in the data directory: whoever has a dump of the database has nothing yet.
"""

import secrets
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from cloud.errors import SealError
from runtime import files

KEY_BYTES = 32
NONCE_BYTES = 12


class Sealer:
    """Seals bytes for a purpose; only the same purpose opens them."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Read the key in `directory`, or make one."""
        path = files.make_directory(directory) / "seal.key"
        if not path.exists():
            files.write_atomic(path, secrets.token_bytes(KEY_BYTES))
        return cls(path.read_bytes())

    def seal(self, plain: bytes, purpose: str) -> bytes:
        """Return what may be stored."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher(purpose).encrypt(nonce, plain, None)

    def unseal(self, sealed: bytes, purpose: str) -> bytes:
        """Return what was sealed; raise SealError if it was not sealed here and for this."""
        nonce, rest = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        try:
            return self._cipher(purpose).decrypt(nonce, rest, None)
        except (InvalidTag, ValueError) as error:
            raise SealError(
                f"seal.key: it does not open {purpose}: restore `secrets/` with the database"
            ) from error

    def token(self, purpose: str) -> str:
        """Return what only this registry can know for a purpose: always the same, stored nowhere.

        Purposes of tokens and of seals are apart, so neither tells anything of the other.
        """
        return self._derived(f"token:{purpose}").hex()

    def _cipher(self, purpose: str) -> AESGCM:
        return AESGCM(self._derived(purpose))

    def _derived(self, purpose: str) -> bytes:
        return HKDF(hashes.SHA256(), KEY_BYTES, salt=None, info=purpose.encode()).derive(self._key)
