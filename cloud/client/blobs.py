"""Bytes to and from the registry, by the client."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from cloud import shapes
from cloud.client import parallel, sending
from cloud.client.calls import Calls
from cloud.client.fetching import Fetcher, Wanted
from cloud.client.parallel import Progress
from cloud.transport import path_of
from runtime.digests import Digest

__all__ = ["BlobCalls", "Progress", "Wanted"]

GC_TIMEOUT_S = 3600.0


class BlobCalls(Calls):
    """Blobs, by digest."""

    def has_blob(self, digest: Digest) -> bool:
        """Say whether the registry has a blob; if so, it keeps it long enough to register it."""
        return sending.has(self._transport, digest)

    def put_blob(self, digest: Digest, path: Path, progress: Progress = lambda _: None) -> None:
        """Upload a file in one request, compressed on the way."""
        sending.put(self._transport, digest, path, progress)

    def put_blobs(self, files: Mapping[Digest, Path], progress: Progress = lambda _: None) -> None:
        """Upload files, several at once; large ones go on where an earlier try broke off.

        Raises InvalidError if a file changes meanwhile.
        """
        with parallel.lanes(self._transport, progress) as lanes:
            sending.Sender(lanes).send(files)

    def fetch_blob(
        self, digest: Digest, target: Path, *, mode: int, progress: Progress = lambda _: None
    ) -> None:
        """Download a blob to `target`, durably; raise IntegrityError if its bytes are wrong."""
        found = self._transport.call("HEAD", path_of("/blobs/{}", digest))
        size = int(found.headers["Content-Length"])
        self.fetch_blobs([Wanted(digest, size, target, mode)], progress)

    def fetch_blobs(self, wanted: Sequence[Wanted], progress: Progress = lambda _: None) -> None:
        """Download blobs, several at once; a later try goes on with what had arrived.

        Raises IntegrityError if the registry sends other bytes than those wanted.
        """
        with parallel.lanes(self._transport, progress) as lanes:
            Fetcher(lanes).fetch(wanted)

    def collect_garbage(self, *, dry_run: bool = False) -> shapes.Garbage:
        """Delete what nothing refers to, or only say what that would be; returns when done."""
        wish = shapes.CollectGarbage(dry_run=dry_run)
        answer = self._transport.call("POST", "/gc", json=wish.model_dump(), timeout=GC_TIMEOUT_S)
        return shapes.Garbage.model_validate_json(answer.content)
