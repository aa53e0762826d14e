"""Objects in a bucket: S3 and what speaks its protocol, and through the same library Azure and
Google. The only module that knows obstore.

Credentials come from where each cloud's own tools look for them: the environment (AWS_*,
AZURE_*, GOOGLE_*), a web identity, or the role of the machine. Requests that fail are tried
again by obstore for a bounded time; what still fails is a StoreError.
"""

import contextlib
import datetime as dt
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import obstore
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, S3Store

from cloud.errors import NotFoundError, StoreError
from cloud.storage.cache import FileCache
from cloud.storage.objects import Stored
from runtime import files

log = logging.getLogger(__name__)

PIECE_BYTES = 8 << 20
"""What one request carries: a larger object is stored as a multipart upload and read by ranges."""
LANES = 4
"""Requests of one upload that are under way at once."""
MAX_TTL_S = 7 * 86400.0
"""S3 signs no URL for longer."""
_SCRATCH = "incoming"
_CACHE = "cache"
_KINDS = {"s3": S3Store, "gs": GCSStore, "azure": AzureStore}
_NAMED_IN = {"s3": "bucket", "gs": "bucket", "azure": "container_name"}


@dataclass(frozen=True)
class Patience:
    """How long one call may take."""

    request_s: float
    """Of one request, with its body."""
    retry_s: float
    """No further attempt begins after this."""


QUICK = Patience(request_s=5, retry_s=4)
"""For what moves no content: some of it happens while other writers of the database wait."""
BULK = Patience(request_s=60, retry_s=60)


@dataclass(frozen=True)
class Place:
    """Which bucket, and how to reach it."""

    scheme: str
    """s3, gs or azure."""
    name: str
    """Of the bucket, or container."""
    prefix: str
    """What all keys begin with; may be empty."""
    options: Mapping[str, Any]
    """In obstore's words: endpoint, region..."""

    def open(self, patience: Patience) -> S3Store | GCSStore | AzureStore:
        """Return a client. Nothing is sent yet."""
        plain = str(self.options.get("endpoint", "")).startswith("http://")
        made = _KINDS[self.scheme](
            **{_NAMED_IN[self.scheme]: self.name},
            prefix=self.prefix or None,
            client_options={
                "allow_http": plain,
                "connect_timeout": dt.timedelta(seconds=3),
                "timeout": dt.timedelta(seconds=patience.request_s),
            },
            retry_config={
                "max_retries": 6,
                "backoff": {"max_backoff": dt.timedelta(seconds=5)},
                "retry_timeout": dt.timedelta(seconds=patience.retry_s),
            },
            **self.options,
        )
        assert isinstance(made, S3Store | GCSStore | AzureStore)
        return made

    def __str__(self) -> str:
        """Return it as a person writes it."""
        return f"{self.scheme}://{self.name}/{self.prefix}"


class Bucket:
    """An ObjectStore. Files that others need on disk are kept in a bounded cache."""

    def __init__(
        self,
        place: Place,
        directory: Path,
        *,
        cache_bytes: int,
        direct: bool = True,
        quick: Patience = QUICK,
        bulk: Patience = BULK,
    ) -> None:
        """Keep cache and scratch below `directory`.

        `direct` says whether `url` gives URLs: that clients can reach the bucket themselves.
        """
        self._place, self._directory, self._direct = place, directory, direct
        self._quick, self._bulk = place.open(quick), place.open(bulk)
        self._cache = FileCache(directory / _CACHE, limit_bytes=cache_bytes)
        for left in self.scratch().iterdir():
            files.remove(left)

    def check(self) -> None:
        """Raise StoreError unless the bucket is there and answers us."""
        with self._explained("list", ""):
            next(iter(obstore.list(self._quick, "blobs", chunk_size=1)), None)

    def size(self, key: str) -> int | None:
        """Return an object's size in bytes; None if there is none."""
        try:
            with self._explained("look for", key):
                return int(obstore.head(self._quick, _checked(key))["size"])
        except NotFoundError:
            return None

    def put_file(self, key: str, path: Path) -> None:
        """Store the bytes of a file in the scratch directory, which moves into the cache."""
        try:
            with self._explained("store", key):
                obstore.put(
                    self._bulk,
                    _checked(key),
                    path,
                    chunk_size=PIECE_BYTES,
                    max_concurrency=LANES,
                )
        except NotFoundError as error:
            raise StoreError(f"store: {self._place} does not exist: make the bucket") from error
        self._cache.adopt(key, path)

    def read(self, key: str, start: int = 0, stop: int | None = None) -> Iterator[bytes]:
        """Yield the bytes from `start` up to `stop`; raise NotFoundError if there is no object."""
        size = self.size(key)
        if size is None:
            raise NotFoundError("object", key)
        stop = size if stop is None else min(stop, size)
        for at in range(start, stop, PIECE_BYTES):
            with self._explained("read", key):
                end = min(at + PIECE_BYTES, stop)
                yield bytes(obstore.get_range(self._bulk, _checked(key), start=at, end=end))

    @contextlib.contextmanager
    def local(self, key: str) -> Iterator[Path]:
        """Give a copy of the object in the cache; raise NotFoundError if there is no object."""
        with self._cache.held(key, lambda target: self._download(key, target)) as path:
            yield path

    def delete(self, key: str) -> None:
        """Forget an object; one that is not there is fine."""
        with contextlib.suppress(NotFoundError), self._explained("delete", key):
            obstore.delete(self._quick, _checked(key))
        self._cache.forget(key)

    def list(self, prefix: str) -> Iterator[Stored]:
        """Yield the objects whose keys begin with this, in any order."""
        with self._explained("list", prefix):
            for chunk in obstore.list(self._bulk, prefix.rpartition("/")[0], chunk_size=1000):
                for found in chunk:
                    if found["path"].startswith(prefix):
                        at = found["last_modified"].timestamp()
                        yield Stored(found["path"], found["size"], at)

    def url(self, key: str, *, ttl_s: float) -> str | None:
        """Return a URL by which anybody can GET the object for `ttl_s`, with Range.

        None if this bucket is not for others to reach.
        """
        if not self._direct:
            return None
        lasting = dt.timedelta(seconds=min(ttl_s, MAX_TTL_S))
        with self._explained("sign", key):
            return obstore.sign(self._quick, "GET", _checked(key), lasting)

    def scratch(self) -> Path:
        """Return a directory on the cache's file system."""
        return files.make_directory(self._directory / _SCRATCH)

    def _download(self, key: str, target: Path) -> None:
        wanted = self.size(key) or 0
        with files.explaining_full_disk(target, wanted), target.open("xb") as file:
            target.chmod(0o600)
            for chunk in self.read(key):
                file.write(chunk)

    @contextlib.contextmanager
    def _explained(self, act: str, key: str) -> Iterator[None]:
        """Turn obstore's errors into ours; their own text has pages of internals."""
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError("object", key) from error
        except (BaseError, ValueError) as error:
            why = str(error).split("\n", 1)[0].split(" - ", 1)[-1].partition("<?xml")[0][:200]
            log.warning("store failed", extra={"act": act, "key": key, "why": why})
            raise StoreError(f"store: could not {act} {key} in {self._place}: {why}") from error


def _checked(key: str) -> str:
    return str(files.relative_path(key, "key"))
