"""A device that does nothing but fetch one bundle, as a process that can be killed.

python -m tests.support.fetch_process URL DIRECTORY BUNDLE [HELD...]
"""

import sys
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from edge_agent.bundles.fetch import Fetcher
from runtime import digests, messages
from runtime.bundle.blobs import BlobStore
from runtime.digests import Digest
from runtime.messages import FetchRequest, FetchResponse
from runtime.retry import Backoff


def fetcher_in(directory: Path, ask_url: str, held: Sequence[Digest] = ()) -> Fetcher:
    """Return a fetcher that asks over HTTP, as the real one does over MQTT."""

    def ask(request: FetchRequest) -> FetchResponse:
        post = urllib.request.Request(ask_url, messages.encode(request))  # noqa: S310 - our own http
        with urllib.request.urlopen(post, timeout=10) as response:  # noqa: S310 - as above
            return messages.decode(FetchResponse, response.read())

    return Fetcher(
        BlobStore(directory / "blobs"),
        directory / "work",
        ask,
        None,
        reserve_bytes=0,
        backoff=Backoff(first_s=0.01, most_s=0.1),
        held=lambda: held,
    )


if __name__ == "__main__":
    url, place, wanted, *others = sys.argv[1:]
    had = [digests.parse(other) for other in others]
    fetcher_in(Path(place), f"{url}/ask", had).fetch(digests.parse(wanted))
