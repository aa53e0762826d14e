"""A real OpenSSH server of the tests' own, and an `ssh` that knows it and nothing else."""

import contextlib
import os
import pwd
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support import parts
from tests.support.brokers import HOST, eventually, free_port, listens


@dataclass(frozen=True)
class Sshd:
    """Where it listens, and how it is reached: with `programs` first in PATH."""

    host: str
    programs: Path

    def forget_host(self) -> None:
        """Have `ssh` know no host any more."""
        (self.programs / "known_hosts").write_text("")


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Sshd]:
    """Start one that lets in this user, by a key, and forwards sockets."""
    parts.require_root("to run sshd")
    program, keygen, ssh = (parts.require(each) for each in ("sshd", "ssh-keygen", "ssh"))
    Path("/run/sshd").mkdir(exist_ok=True)
    port = free_port()
    for name in ("host", "user"):
        made = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)]
        subprocess.run(made, check=True)
    (directory / "sshd_config").write_text(
        f"ListenAddress {HOST}:{port}\nHostKey {directory}/host\nPidFile none\n"
        f"AuthorizedKeysFile {directory}/user.pub\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin prohibit-password\nPasswordAuthentication no\n"
    )
    programs = directory / "bin"
    programs.mkdir()
    public = (directory / "host.pub").read_text()
    (programs / "known_hosts").write_text(f"[{HOST}]:{port} {public}")
    (programs / "config").write_text(
        f"IdentityFile {directory}/user\nIdentitiesOnly yes\nStrictHostKeyChecking yes\n"
        f"UserKnownHostsFile {programs}/known_hosts\nGlobalKnownHostsFile none\n"
    )
    wrapper = programs / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {ssh} -F {programs}/config "$@"\n')
    wrapper.chmod(0o755)
    with (directory / "log").open("wb") as log:
        argv = [program, "-D", "-e", "-f", str(directory / "sshd_config")]
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        eventually(lambda: listens(port), f"sshd listens: see {directory / 'log'}")
        user = pwd.getpwuid(os.geteuid()).pw_name
        yield Sshd(f"ssh://{user}@{HOST}:{port}", programs)
    finally:
        child.terminate()
        child.wait()
