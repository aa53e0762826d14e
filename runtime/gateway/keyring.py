"""Who may ask, and how often.

A key is looked up by its digest under a secret of this process, so how long that takes tells
nothing about the keys that exist; the digests are then compared in constant time.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable

from runtime.gateway import buckets
from runtime.gateway.buckets import Bucket
from runtime.gateway.config import Key

MAX_KEY_BYTES = 512
_SCHEME = "bearer "


class UnknownKeyError(Exception):
    """No key, or one that is not known."""


class TooOftenError(Exception):
    """The key's limit is reached."""

    def __init__(self, key: str, wait_s: float) -> None:
        super().__init__(key)
        self.key, self.wait_s = key, wait_s


class Limiter:
    """The buckets of all keys; they outlive a change of configuration."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._buckets: dict[Key, Bucket] = {}

    def take(self, key: Key) -> None:
        """Count one request; raise TooOftenError if it is one too many."""
        if key.limit is None:
            return
        now = self._clock()
        bucket = self._buckets.get(key) or buckets.full(key.limit, now)
        self._buckets[key], wait_s = buckets.take(bucket, key.limit, now)
        if wait_s:
            raise TooOftenError(key.name, wait_s)

    def keep(self, keys: Iterable[Key]) -> None:
        """Forget the buckets of all others."""
        kept = set(keys)
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if key in kept}


class Keyring:
    """The keys of one configuration."""

    def __init__(self, keys: Iterable[Key], *, anonymous: bool, limiter: Limiter) -> None:
        self._secret = secrets.token_bytes(32)
        self._anonymous, self._limiter = anonymous, limiter
        self._keys = {
            self._place(digest): (digest, key)
            for key in keys
            for digest in (bytes.fromhex(key.sha256),)
        }

    def admit(self, authorization: str | None, api_key: str | None) -> str | None:
        """Return the name of the key that was shown, or None for anonymous.

        `authorization` and `api_key` are the headers of those names. Raises UnknownKeyError or
        TooOftenError.
        """
        key = self._find(_shown(authorization, api_key))
        if key is not None:
            self._limiter.take(key)
            return key.name
        if not self._anonymous:
            raise UnknownKeyError
        return None

    def _find(self, shown: bytes | None) -> Key | None:
        if shown is None:
            return None
        digest = hashlib.sha256(shown).digest()
        wanted, key = self._keys.get(self._place(digest), (bytes(len(digest)), None))
        return key if hmac.compare_digest(wanted, digest) else None

    def _place(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._secret, digest_size=16).digest()


def _shown(authorization: str | None, api_key: str | None) -> bytes | None:
    if authorization is not None and authorization[: len(_SCHEME)].lower() == _SCHEME:
        shown = authorization[len(_SCHEME) :].strip()
    elif api_key is not None:
        shown = api_key.strip()
    else:
        return None
    data = shown.encode("utf-8", "surrogateescape")
    return data if 0 < len(data) <= MAX_KEY_BYTES else None
