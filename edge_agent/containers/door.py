"""The device's container engine: connected when it is first needed, and again when it was away.

Whoever never runs a container never pays for the docker package.
"""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.containers.engine import Engine

ROOT = Path("/")
DOCKER = Path("var/run/docker.sock")
PODMAN = Path("run/podman/podman.sock")
ANSWER_S = 30.0


class EngineDoor:
    """One connection for all threads."""

    def __init__(self, url: str = "") -> None:
        """`url` "": Docker's socket, else Podman's."""
        self._url = url
        self._lock = threading.Lock()
        self._engine: Engine | None = None

    def engine(self) -> "Engine":
        """Return the engine; raises EngineUnreachableError, or InvalidError for a wrong URL."""
        with self._lock:
            if self._engine is None:
                from runtime.containers.engine import Engine  # noqa: PLC0415 - see above
                from runtime.containers.specs import Address  # noqa: PLC0415

                url = self._url or default_url(os.environ)
                self._engine = Engine(Address(url, timeout_s=ANSWER_S))
            return self._engine

    def drop(self, engine: "Engine | None" = None) -> None:
        """Let go of a connection that broke, or of any."""
        with self._lock:
            if self._engine is None or engine not in {None, self._engine}:
                return
            broken, self._engine = self._engine, None
        broken.close()

    def close(self) -> None:
        """Let go: the agent ends."""
        self.drop()


def default_url(environment: Mapping[str, str], *, root: Path = ROOT) -> str:
    """Return where an engine listens on this device, or would."""
    rootless = Path(environment.get("XDG_RUNTIME_DIR") or "/nowhere") / "podman/podman.sock"
    docker = root / DOCKER
    for path in (docker, root / PODMAN, rootless):
        if path.exists():
            return f"unix://{path}"
    return f"unix://{docker}"
