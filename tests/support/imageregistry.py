"""Debian's image registry on 127.0.0.1, where engines need no TLS; it says what is sent to it.

with imageregistry.serving(tmp_path, guarded=True) as registry:
    registry.repository("team")      # 127.0.0.1:PORT/team
"""

import base64
import contextlib
import http.client
import json
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runtime import children
from runtime.containers.specs import Credentials
from tests.support import parts
from tests.support.brokers import HOST, eventually, free_port

CREDENTIALS = Credentials("carrier", "open sesame")
_HTPASSWD = "carrier:$2b$04$nVxruUY6bcZldkFMzs5sg.lDst6g2vLOQj69W33m2SK3NEjGHGn8S\n"


@dataclass
class ImageRegistry:
    """One that runs."""

    port: int
    directory: Path

    def repository(self, path: str) -> str:
        """Return how images of a path in it are called."""
        return f"{HOST}:{self.port}/{path}"

    def blobs(self) -> dict[str, int]:
        """Return the sizes of what is stored, by digest."""
        found = self.directory.glob("docker/registry/v2/blobs/sha256/??/*/data")
        return {f"sha256:{each.parent.name}": each.stat().st_size for each in found}


@contextlib.contextmanager
def serving(
    directory: Path, *, guarded: bool = False, auth: Mapping[str, object] | None = None
) -> Iterator[ImageRegistry]:
    """Run one with its images below `directory`; guarded: for CREDENTIALS alone, or as `auth`."""
    program = parts.require("docker-registry")
    registry = ImageRegistry(free_port(), directory / "images")
    (directory / "htpasswd").write_text(_HTPASSWD)
    settings = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(registry.directory)}},
        "http": {"addr": f"{HOST}:{registry.port}"},
    }
    if guarded:
        access = {"realm": "images", "path": str(directory / "htpasswd")}
        settings["auth"] = {"htpasswd": access}
    if auth is not None:
        settings["auth"] = dict(auth)
    path = directory / "registry.yml"
    path.write_text(json.dumps(settings))  # JSON is YAML
    with (directory / "registry.log").open("wb") as log:
        child = children.spawn([program, "serve", str(path)], stdout=log, stderr=subprocess.STDOUT)
    try:
        eventually(lambda: _answers(registry.port), "the image registry answers")
        yield registry
    finally:
        children.stop(child, grace_s=5)


def log_in(config: Path, registry: ImageRegistry) -> None:
    """Write what `docker login` does, below DOCKER_CONFIG."""
    pair = f"{CREDENTIALS.username}:{CREDENTIALS.password}".encode()
    config.mkdir()
    host = {f"{HOST}:{registry.port}": {"auth": base64.b64encode(pair).decode()}}
    (config / "config.json").write_text(json.dumps({"auths": host}))


def _answers(port: int) -> bool:
    with contextlib.closing(http.client.HTTPConnection(HOST, port, timeout=5)) as connection:
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in {http.client.OK, http.client.UNAUTHORIZED}
        except OSError:
            return False
