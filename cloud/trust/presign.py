"""Download URLs that need no key and work for a while: a path, an expiry, and a signature.

/dl/{encoding}/{digest}?e=1767225600&s=<HMAC-SHA256 of method, path and expiry>
/dl/{encoding}/{digest}?base={digest}&e=…&s=<the same, and the base>
"""

import hashlib
import hmac
import secrets
from pathlib import Path

from cloud.errors import UrlExpiredError, UrlRefusedError
from runtime import files
from runtime.clock import Clock
from runtime.digests import Digest

SECRET_BYTES = 32
ROOT = "/dl"


class Presigner:
    """Signs and checks download paths."""

    def __init__(self, secret: bytes, *, ttl_s: float, clock: Clock) -> None:
        self._secret, self._ttl_s, self._clock = secret, ttl_s, clock

    @classmethod
    def open(cls, directory: Path, *, ttl_s: float, clock: Clock) -> "Presigner":
        """Read the secret in `directory`, or make one; URLs survive a restart."""
        path = files.make_directory(directory) / "presign.key"
        if not path.exists():
            files.write_atomic(path, secrets.token_bytes(SECRET_BYTES))
        return cls(path.read_bytes(), ttl_s=ttl_s, clock=clock)

    @property
    def ttl_s(self) -> float:
        """How long a URL works, in seconds."""
        return self._ttl_s

    def blob(self, encoding: str, digest: Digest, base: Digest | None = None) -> str:
        """Return path and query under which the encoded blob can be had from now on."""
        return self.sign(f"{ROOT}/{encoding}/{digest}", base)

    def parts(self, encoding: str, digest: Digest, base: Digest | None = None) -> str:
        """Return path and query of the encoded blob's part table."""
        return self.sign(f"{ROOT}/{encoding}/{digest}/parts", base)

    def sign(self, path: str, base: Digest | None = None) -> str:
        """Return `path` with base, if there is one, expiry and signature."""
        expiry = int(self._clock.now() + self._ttl_s)
        named = "" if base is None else f"base={base}&"
        return f"{path}?{named}e={expiry}&s={self._signature(path, str(expiry), base)}"

    def check(self, path: str, *, expiry: str, signature: str, base: str | None = None) -> None:
        """Raise UrlRefusedError unless we signed this, UrlExpiredError if that was too long ago."""
        wanted = self._signature(path, expiry, base)
        if not hmac.compare_digest(wanted.encode(), signature.encode()):
            raise UrlRefusedError("url: its signature is not valid: ask for a new one")
        if self._clock.now() > int(expiry):
            raise UrlExpiredError("url: it has expired: ask for a new one")

    def _signature(self, path: str, expiry: str, base: str | None) -> str:
        text = f"GET\n{path}\n{expiry}".encode()
        if base is not None:
            text += f"\n{base}".encode()
        return hmac.new(self._secret, text, hashlib.sha256).hexdigest()
