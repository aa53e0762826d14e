"""`packhorse-runtime serve` as a child process, and plain HTTP to it."""

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from runtime import unixsockets

_SERVING = re.compile(r"Serving (.*) at (.*)\n")


class Answer:
    """An HTTP answer."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.status, self.headers, self.body = answer.status, answer.headers, answer.read()

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


class RuntimeServer:
    """A server; stop it."""

    def __init__(self, *arguments: str, log: Path) -> None:
        """Start it and wait until it serves."""
        self.log = log
        with log.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "runtime", "serve", *arguments],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        assert self.process.stdout is not None
        self.line = self.process.stdout.readline()
        found = _SERVING.fullmatch(self.line)
        if found is None:
            self.process.stdout.close()
            self.process.wait(60)
            raise AssertionError(log.read_text())
        self.models, self.places = found[1], found[2].split(", ")

    def connect(self) -> http.client.HTTPConnection:
        """Return a new connection to its first place."""
        place = self.places[0]
        if place.startswith("unix:"):
            return unixsockets.HTTPConnection(Path(place[5:]), timeout_s=60)
        return http.client.HTTPConnection(place.removeprefix("http://"), timeout=60)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send one request on a connection of its own; `body` as JSON unless it is bytes."""
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection = self.connect()
        try:
            connection.request(method, path, data, headers=dict(headers or {}))
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def signal(self, number: int = signal.SIGTERM) -> None:
        """Tell it to end."""
        self.process.send_signal(number)

    def stop(self) -> int:
        """End it; return its exit code."""
        self.signal()
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            self.process.wait()
            assert self.process.stdout is not None
            self.process.stdout.close()


def health(*arguments: str) -> int:
    """Return what `packhorse-runtime health` exits with."""
    return subprocess.run(
        [sys.executable, "-m", "runtime", "health", *arguments],
        capture_output=True,
        timeout=60,
        check=False,
    ).returncode
