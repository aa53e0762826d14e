"""The bundles on this device: laid out, checked against their digests, and swept away by reference.

{data}/blobs/…             each file's bytes once
{data}/bundles/{digest}/   a bundle's files under their own paths, and `.index.json`
{data}/downloads/          what is on its way
"""

import contextlib
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from edge_agent.bundles.pins import Pins
from runtime import digests, files
from runtime.bundle import index as bundle_index
from runtime.bundle import materialise, variants
from runtime.bundle.blobs import BlobStore
from runtime.bundle.index import Index
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError

log = logging.getLogger(__name__)


class Releases:
    """Everything below `{data}/blobs` and `{data}/bundles`."""

    def __init__(self, data: Path, facts: Mapping[str, str] | None = None) -> None:
        """Use these directories; sweep away what a killed agent left half made.

        `facts` choose among a bundle's variants: only the files of that one are needed here.
        """
        self._facts = dict(facts or {})
        self.blobs = BlobStore(data / "blobs")
        self.downloads = files.make_directory(data / "downloads")
        self.pins = Pins()
        self._bundles = files.make_directory(data / "bundles")
        files.sweep_temporaries(self._bundles)

    def directory(self, bundle: Digest) -> Path:
        """Return where a bundle is laid out, or would be."""
        return self._bundles / digests.parse(bundle, "bundle")

    def held(self) -> list[Digest]:
        """Return the bundles that are laid out, newest first."""
        found = [path for path in self._bundles.iterdir() if not path.name.startswith(".")]
        found.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        return [Digest(path.name) for path in found]

    def index(self, bundle: Digest) -> Index:
        """Return the index of a bundle that is laid out; raise InvalidError if it is not."""
        try:
            data = (self.directory(bundle) / materialise.INDEX_NAME).read_bytes()
        except OSError as error:
            raise InvalidError(
                "bundle", bundle, f"its files are gone ({error.strerror})"
            ) from error
        if digests.of_bytes(data) != bundle:
            raise InvalidError("bundle", bundle, "its index is damaged")
        return self._seen(data)

    def lay_out(self, bundle: Digest) -> Index:
        """Return a fetched bundle's index once its directory holds exactly what that names.

        Reads every file again: what the disk has changed is removed, and IntegrityError raised, so
        that fetching once more mends it. Raises InvalidError if no directory can hold the bundle,
        SpaceError if the disk is full.
        """
        try:
            index_bytes = self._checked_bytes(bundle)
            index = self._seen(index_bytes)
            for digest in sorted({entry.sha256 for entry in index.files}):
                if self.blobs.has(digest):
                    self.blobs.check(digest)
        except IntegrityError:
            # The directory's files are the same inodes as the blobs.
            files.remove(self.directory(bundle))
            raise
        if not self._is_whole(bundle, index):
            files.remove(self.directory(bundle))
        materialise.materialise(index, index_bytes, self.blobs, self.directory(bundle))
        return index

    def collect(self, keep: Collection[Digest]) -> int:
        """Remove all bundles but these, and all blobs that none of these needs; return how many."""
        removed = 0
        for path in self._bundles.iterdir():
            if path.name not in keep:
                files.remove(path)
                removed += 1
        needed = {digest for bundle in keep for digest in self._blobs_of(bundle)}
        with self.pins.lock:
            for digest in set(self.blobs.digests()) - needed - self.pins.kept():
                self.blobs.delete(digest)
                removed += 1
        if removed:
            log.info("garbage collected", extra={"removed": removed, "kept": len(keep)})
        return removed

    def _checked_bytes(self, bundle: Digest) -> bytes:
        if not self.blobs.has(bundle):
            raise IntegrityError("index", wanted=bundle, got="nothing")
        self.blobs.check(bundle)
        return self.blobs.path(bundle).read_bytes()

    def _is_whole(self, bundle: Digest, index: Index) -> bool:
        """Say whether a directory, if there is one, holds the bytes that the index names."""
        directory = self.directory(bundle)
        try:
            return all(
                (directory / entry.path).samefile(self.blobs.path(entry.sha256))
                or digests.of_file(directory / entry.path) == entry.sha256
                for entry in index.files
            )
        except OSError:
            return False

    def _blobs_of(self, bundle: Digest) -> Iterator[Digest]:
        yield bundle
        # An index that is not here yet, or damaged, is fetched first; so are its blobs.
        with contextlib.suppress(InvalidError):
            for entry in self.fetched_index(bundle).files:
                yield entry.sha256

    def fetched_index(self, bundle: Digest) -> Index:
        """Return the index of a bundle whose files may not be laid out yet; raise InvalidError."""
        if not self.blobs.has(bundle):
            return self.index(bundle)
        with self.blobs.open(bundle) as file:
            return self._seen(file.read())

    def _seen(self, index_bytes: bytes) -> Index:
        """Return a bundle as this device sees it."""
        return variants.seen_by(bundle_index.decode(index_bytes), self._facts)
