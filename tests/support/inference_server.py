"""`packhorse-runtime serve` as a process of its own: HTTP, gRPC and a repository."""

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_SERVING = re.compile(r"Serving .* at http://127\.0\.0\.1:(\d+), grpc://127\.0\.0\.1:(\d+)\n")


class Ports(NamedTuple):
    """Where a server listens, on 127.0.0.1."""

    http: int
    grpc: int


@contextlib.contextmanager
def running(root: Path, *arguments: str) -> Iterator[Ports]:
    """Serve all versions in `root`, MODEL/VERSION/; clients may load and unload them."""
    command = [
        *(sys.executable, "-m", "runtime", "serve", "--repository", str(root)),
        *("--all-versions", "--repository-api", "--http-port", "0", "--grpc-port", "0"),
        *arguments,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            ports = _SERVING.fullmatch(line)
            assert ports is not None, line
            yield Ports(*map(int, ports.groups()))
        finally:
            process.terminate()
        assert process.wait(30) == 0
