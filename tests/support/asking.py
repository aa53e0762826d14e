"""Clients that ask one URL again and again, and keep count: each failure with what was said."""

import contextlib
import http.client
import json
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

PATIENCE_S = 30
PAUSE_S = 0.01
"""Between an answer and the next request: what changes beside them needs the processor too."""


class Load:
    """What came of the requests so far."""

    def __init__(self, url: str, headers: dict[str, str], path: str, body: bytes) -> None:
        self._url, self._headers, self._path, self._body = urlsplit(url), headers, path, body
        self._stop = threading.Event()
        self.answers = 0
        self.failures: list[str] = []
        self.last: Any = None

    def client(self) -> None:
        """Ask until told to stop, on connections that are kept as long as they are let."""
        connection = None
        while not self._stop.wait(PAUSE_S):
            if connection is None:
                host, port = self._url.hostname, self._url.port
                connection = http.client.HTTPConnection(str(host), port, timeout=PATIENCE_S)
            try:
                connection.request("POST", self._path, self._body, self._headers)
                answer = connection.getresponse()
                said = answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
                connection = None
                continue
            if answer.status == http.client.OK:
                self.answers, self.last = self.answers + 1, json.loads(said)
            else:
                self.failures.append(f"{answer.status} {said[:200]!r}")
        if connection is not None:
            connection.close()

    def stop(self) -> None:
        """Let every client end with its request."""
        self._stop.set()


@contextlib.contextmanager
def asking(
    url: str,
    *,
    path: str = "/v2/models/scale/infer",
    body: bytes = b"{}",
    headers: dict[str, str] | None = None,
    clients: int = 3,
) -> Iterator[Load]:
    """Ask while the block runs."""
    load = Load(url, headers or {}, path, body)
    threads = [threading.Thread(target=load.client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop()
        for thread in threads:
            thread.join()
