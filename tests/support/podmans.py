"""A real Podman service of a test's own: it speaks the API of Docker's engine.

with podmans.serving(registry) as url:
    engine = Engine(Address(url))
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runtime import children
from runtime.containers.engine import Engine
from runtime.containers.errors import EngineUnreachableError
from runtime.containers.specs import Address
from tests.support import parts
from tests.support.brokers import HOST, eventually
from tests.support.imageregistry import ImageRegistry

PATIENCE_S = 60.0
_SETTINGS = """[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[network]
network_backend = "netavark"
"""
"""A root without every capability may not raise limits, as Podman would."""
_REGISTRIES = """[[registry]]
location = "{place}"
insecure = true
"""


@contextlib.contextmanager
def serving(registry: ImageRegistry) -> Iterator[str]:
    """Run one that pulls from an image registry without TLS; give its URL."""
    parts.require_root("to run podman")
    program = parts.require("podman")
    place = Path(tempfile.mkdtemp(prefix="packhorse-podman-"))
    (place / "containers.conf").write_text(_SETTINGS)
    (place / "registries.conf").write_text(_REGISTRIES.format(place=f"{HOST}:{registry.port}"))
    environment = {
        **os.environ,
        "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin",
        "CONTAINERS_CONF": str(place / "containers.conf"),
        "CONTAINERS_REGISTRIES_CONF": str(place / "registries.conf"),
    }
    podman = [
        *(program, "--root", str(place / "root"), "--runroot", str(place / "run")),
        *("--tmpdir", str(place / "tmp"), "--network-config-dir", str(place / "networks")),
        *("--cgroup-manager", "cgroupfs", "--storage-driver", "overlay"),
        # crun, which is its first choice, refuses where both versions of cgroups have controllers.
        *("--runtime", "runc"),
    ]
    url = f"unix://{place}/podman.sock"
    with (place / "log").open("wb") as log:
        child = children.spawn(
            [*podman, "system", "service", "--time", "0", url],
            stdout=log,
            stderr=log,
            env=environment,
        )
    try:
        eventually(lambda: _answers(url), f"podman answers: see {place / 'log'}", PATIENCE_S)
        yield url
    finally:
        subprocess.run(
            [*podman, "rm", "--all", "--force", "--time", "0"],
            env=environment,
            check=False,
            capture_output=True,
        )
        children.stop(child, grace_s=10)
        _unmount(place)
        shutil.rmtree(place, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        with contextlib.closing(Engine(Address(url))) as engine:
            return bool(engine.version())
    except EngineUnreachableError:
        return False


def _unmount(place: Path) -> None:
    for mounts in Path("/proc/self/mounts").read_text().splitlines():
        where = mounts.split()[1]
        if Path(where).is_relative_to(place):
            subprocess.run(["umount", "-l", where], check=False)
