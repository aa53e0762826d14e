"""`packhorse-runtime health`: ask a server whether it is ready, for a container's health check.

It imports next to nothing, since it is started every few seconds.
"""

import argparse
import http.client
import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from runtime import unixsockets
from runtime.errors import InvalidError

DEFAULT_URL = "http://127.0.0.1:8080"
MAX_ANSWER_BYTES = 64 * 1024


def add(commands: Any) -> None:
    """Add the arguments."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "health",
        help="exit 0 if a server is ready, 1 if not",
        description="Ask a server for /v2/health/ready; exit 0 if it is, 1 if it is not.",
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--url", default=DEFAULT_URL, help=f"where it listens ({DEFAULT_URL})")
    where.add_argument("--uds", type=Path, help="Unix socket that it listens at")
    parser.add_argument("--live", action="store_true", help="ask whether it is alive, not ready")
    parser.add_argument("--timeout-s", type=float, default=3.0, help="wait at most so long (3)")


def run(arguments: argparse.Namespace) -> int:
    """Ask; return the exit code."""
    path = f"/v2/health/{'live' if arguments.live else 'ready'}"
    connection = _connection(arguments)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        said = answer.read(MAX_ANSWER_BYTES)
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"packhorse-runtime: no answer: {error or type(error).__name__}\n")
        return 1
    finally:
        connection.close()
    sys.stdout.write(said.decode(errors="replace") + "\n")
    return 0 if answer.status == http.client.OK and _says_yes(said) else 1


def _connection(arguments: argparse.Namespace) -> http.client.HTTPConnection:
    if arguments.uds is not None:
        return unixsockets.HTTPConnection(arguments.uds, timeout_s=arguments.timeout_s)
    try:
        url = urlsplit(arguments.url)
        host, port = url.hostname, url.port
    except ValueError as error:
        raise InvalidError("--url", arguments.url, f"give one like {DEFAULT_URL}") from error
    if url.scheme not in {"http", "https"} or host is None:
        raise InvalidError("--url", arguments.url, f"give one like {DEFAULT_URL}")
    kind = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    return kind(host, port, timeout=arguments.timeout_s)


def _says_yes(said: bytes) -> bool:
    try:
        answer = json.loads(said)
    except ValueError:
        return False
    return isinstance(answer, dict) and answer.get("ready", answer.get("live")) is True
