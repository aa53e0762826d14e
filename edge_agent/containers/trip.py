"""One image's way from its image registry to files here; for one thread.

Every byte passes the bundle's valve. What waiting may mend is tried again, and goes on from the
last byte that came.
"""

import contextlib
import functools
import hashlib
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from edge_agent.bundles.fetch import Passage
from edge_agent.containers import cargo
from edge_agent.containers.cargo import Seen
from edge_agent.containers.layerfiles import LayerFile, LayerFiles
from runtime.digests import Digest
from runtime.errors import IntegrityError, LinkError
from runtime.imageregistry import manifests
from runtime.imageregistry.client import READ_BYTES, Document, RegistryClient
from runtime.imageregistry.errors import ImageAnswerError, NoRangesError
from runtime.imageregistry.manifests import Described, Platform

log = logging.getLogger(__name__)

MOST_WRONG = 3
"""How often a layer may arrive with other bytes than promised."""
LIKELY_DOCUMENT_BYTES = 4096

Got = TypeVar("Got")


class Trip:
    """Of one image."""

    def __init__(
        self, client: RegistryClient, passage: Passage, files: LayerFiles, bundle: Digest
    ) -> None:
        """Bring layers into `files`."""
        self._client, self._files, self._bundle = client, files, bundle
        self._valve, self._patience = passage.valve, passage.valve.patience
        self._ranges = True

    def look(self, reference: str, platform: Platform) -> Seen:
        """Return what an image is for a platform."""
        first = self._patiently(lambda: self._document(reference))
        asked, found = len(first.data), manifests.read(first.data, first.media_type)
        if isinstance(found, tuple):
            entry = manifests.choose(found, platform)
            first = self._patiently(lambda: self._document(entry.digest))
            asked, found = asked + len(first.data), manifests.read(first.data, first.media_type)
        if isinstance(found, tuple):
            raise ImageAnswerError(f"{first.digest}: an index within an index")
        config = self._patiently(lambda: self._small(found.config))
        return Seen(
            digest=first.digest,
            media_type=first.media_type,
            manifest=found,
            config=manifests.read_config(config),
            documents={found.config.digest: config, first.digest: first.data},
            asked_bytes=asked,
        )

    def unpacked_bytes(self, layer: Described) -> int:
        """Return how large a layer is unpacked, likely."""
        trailer = b""
        if cargo.has_trailer(layer):
            start = layer.size - cargo.TRAILER_BYTES
            with contextlib.suppress(NoRangesError):
                trailer = self._patiently(
                    lambda: b"".join(self._read(layer.digest, start, layer.size))
                )
        return cargo.unpacked_bytes(layer, trailer)

    def bring(self, layers: Sequence[Described], progress: Callable[[int, int], None]) -> None:
        """Have these layers here, each with the digest that it shall have."""
        total = sum(each.size for each in layers)
        done = 0
        progress(done, total)
        for layer in layers:
            with contextlib.closing(self._files.open(self._bundle, layer)) as file:
                self._bring(file, functools.partial(_tell, progress, done, total))
            done += layer.size

    def _bring(self, file: LayerFile, came: Callable[[int], None]) -> None:
        for _ in range(MOST_WRONG):
            self._patiently(lambda: self._fill(file, came))
            if file.is_right():
                return
            log.warning("layer arrived with wrong bytes", extra={"layer": file.layer.digest})
            file.begin_anew()
        raise IntegrityError(
            f"layer fetched {MOST_WRONG} times", wanted=file.layer.digest, got="other bytes"
        )

    def _fill(self, file: LayerFile, came: Callable[[int], None]) -> None:
        """Get the bytes that a layer lacks."""
        whole = file.layer.size
        while file.size < whole:
            if not self._ranges:
                file.begin_anew()
                self._valve.room(whole, least=whole)
            left = whole - file.size
            stop = file.size + (self._valve.step(left) if self._ranges else left)
            try:
                for chunk in self._read(file.layer.digest, file.size, stop):
                    file.write(chunk)
                    came(file.size)
            except NoRangesError:
                if not self._ranges:
                    raise
                self._ranges = False

    def _read(self, digest: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield bytes of a blob as they arrive, as fast and as many as they may come."""
        stop = start + self._valve.room(stop - start)
        most = self._valve.most(READ_BYTES)
        with contextlib.closing(self._client.blob(digest, start, stop, most=most)) as chunks:
            while start < stop:
                size = min(most, stop - start)
                self._valve.wait(size)
                chunk = b""
                try:
                    chunk = next(chunks)
                finally:
                    self._valve.count(len(chunk), waited_for=size)
                start += len(chunk)
                yield chunk
                self._patience.require_leave()

    def _small(self, described: Described) -> bytes:
        """Return a whole blob of at most a MB, such as a configuration."""
        if described.size > manifests.MAX_BYTES:
            raise ImageAnswerError(f"a configuration of {described.size} bytes")
        self._valve.room(described.size, least=described.size)
        data = b"".join(self._read(described.digest, 0, described.size))
        got = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if got != described.digest:
            raise IntegrityError("configuration of an image", wanted=described.digest, got=got)
        return data

    def _document(self, reference: str) -> Document:
        limit = self._valve.room(manifests.MAX_BYTES)
        self._valve.wait(LIKELY_DOCUMENT_BYTES)
        came = 0
        try:
            found = self._client.document(reference, limit_bytes=limit)
            came = len(found.data)
        except ImageAnswerError:
            self._valve.room(manifests.MAX_BYTES, least=limit)
            raise
        finally:
            self._valve.count(came, waited_for=LIKELY_DOCUMENT_BYTES)
        return found

    def _patiently(self, get: Callable[[], Got]) -> Got:
        """Do it again, ever more slowly, for as long as that may help."""
        while True:
            self._patience.stop_if_cancelled()
            try:
                return get()
            except NoRangesError:
                raise
            except LinkError as error:
                self._patience.failed(error)


def _tell(progress: Callable[[int, int], None], before: int, total: int, came: int) -> None:
    progress(before + came, total)
