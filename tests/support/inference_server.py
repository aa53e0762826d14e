"""A whole inference server as a process of its own: HTTP, gRPC and a repository.

    python inference_server.py DIRECTORY      in it MODEL/VERSION/, as models.install lays out

It prints {"http": port, "grpc": port} once it answers, and ends with its standard input.
"""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import uvloop

from runtime.bundle import index as bundle_index
from runtime.bundle.index import Index
from runtime.serving.dataplane import DataPlane
from runtime.serving.repository import Repository
from runtime.serving.rest.app import Rest
from runtime.serving.rpc import server as rpc_server
from runtime.serving.server import Server


class Ports(NamedTuple):
    """Where a server listens, on 127.0.0.1."""

    http: int
    grpc: int


class Directory:
    """A shelf: models in a directory, versions below them."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def versions(self) -> list[tuple[str, str]]:
        """Return names and versions."""
        found = (path.parent for path in self._root.glob("*/*/.index.json"))
        return sorted((path.parent.name, path.name) for path in found)

    def open(self, name: str, version: str) -> tuple[Path, Index]:
        """Return a bundle's directory and index."""
        directory = self._root / name / version
        return directory, bundle_index.decode((directory / ".index.json").read_bytes())


async def serve(root: Path) -> None:
    """Load all that there is, answer until standard input ends."""
    plane, shelf = DataPlane(), Directory(root)
    repository = Repository(plane, shelf, allow=("entry-script",))
    for name, version in shelf.versions():
        await repository.load(name, version)
    listener = socket.create_server(("127.0.0.1", 0))
    http = Server(Rest(plane, repository=repository), [listener])
    await http.accept()
    grpc = await rpc_server.start(plane, repository=repository)
    print(json.dumps({"http": listener.getsockname()[1], "grpc": grpc.port}), flush=True)  # noqa: T201 - how we tell
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await grpc.drain(5.0)
    await http.stop(5.0)
    plane.close()


@contextlib.contextmanager
def running(root: Path) -> Iterator[Ports]:
    """Start a server for what lies in `root`."""
    top = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, __file__, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(top)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        yield Ports(**json.loads(process.stdout.readline()))
        process.stdin.close()
        assert process.wait(30) == 0


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1])))
