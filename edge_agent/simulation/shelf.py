"""What bundles consist of, learned by really downloading each once in this process.

The first device that wants a bundle brings it with the real fetcher: offers over its own MQTT
connection, parts over HTTPS, each checked. All others ask for their offers too, and then wait as
long as their link would take.
"""

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from edge_agent.bundles.fetch import Fetcher
from edge_agent.bundles.offers import Ask
from edge_agent.simulation.loop import Loop
from runtime import files
from runtime.bundle.blobs import BlobStore
from runtime.bundle.index import Index
from runtime.digests import Digest
from runtime.errors import PackhorseError
from runtime.retry import Backoff

log = logging.getLogger(__name__)

Told = Callable[[Index | None, str], None]
"""Given the index, or why there is none yet."""


class Shelf:
    """Bundles that this process has seen; all methods are the loop's."""

    def __init__(self, loop: Loop, directory: Path, *, base_url: str, ca_file: Path) -> None:
        """Keep what is downloaded in `directory`."""
        self._loop, self._base_url, self._ca_file = loop, base_url, ca_file
        self._directory = files.make_directory(directory)
        self._known: dict[Digest, Index] = {}
        self._waiting: dict[Digest, list[Told]] = {}

    def see(self, bundle: Digest, ask: Ask, told: Told) -> None:
        """Have `told` called with what a bundle consists of; `ask` may be used to find out."""
        if (index := self._known.get(bundle)) is not None:
            told(index, "")
            return
        waiting = self._waiting.setdefault(bundle, [])
        waiting.append(told)
        if len(waiting) == 1:
            name = f"fetch-{bundle[:8]}"
            threading.Thread(target=self._fetch, args=(bundle, ask), name=name, daemon=True).start()

    def _fetch(self, bundle: Digest, ask: Ask) -> None:
        directory = self._directory / bundle[:16]
        try:
            fetcher = Fetcher(
                BlobStore(files.make_directory(directory / "blobs")),
                files.make_directory(directory / "downloads"),
                ask,
                self._ca_file,
                base_url=self._base_url,
                reserve_bytes=0,
                backoff=Backoff(first_s=0.5, most_s=4.0),
            )
            index = fetcher.fetch(bundle)
        except (PackhorseError, OSError) as error:
            reason = str(error)
            log.warning("sample not fetched", extra={"bundle": bundle, "reason": reason})
            self._loop.call(lambda: self._tell(bundle, None, reason))
        else:
            self._loop.call(lambda: self._tell(bundle, index, ""))

    def _tell(self, bundle: Digest, index: Index | None, reason: str) -> None:
        if index is not None:
            self._known[bundle] = index
        for told in self._waiting.pop(bundle, ()):
            told(index, reason)
