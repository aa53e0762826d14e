"""`packhorse-agent registry-login`: who this device is to an image registry."""

import argparse
import os
import sys
from pathlib import Path

from edge_agent.containers.logins import NAME, Logins
from runtime.errors import InvalidError
from runtime.imagelogins import Login

MAX_PASSWORD_BYTES = 16 * 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("registry", help="HOST or HOST:PORT, as images name it")
    parser.add_argument("--username", help="the password is read from stdin")
    parser.add_argument("--forget", action="store_true", help="forget the login")


def run(chosen: argparse.Namespace) -> int:
    """Keep or forget a login; return the exit code."""
    data: Path = chosen.data
    if not data.is_dir():
        raise InvalidError("data", str(data), "name the directory of an agent")
    if "/" in chosen.registry or not chosen.registry:
        raise InvalidError("registry", chosen.registry, "write HOST or HOST:PORT")
    login = None
    if not chosen.forget:
        if not chosen.username:
            raise InvalidError("username", None, "give --username; the password comes on stdin")
        # Never as an argument: `ps` shows those to everybody.
        typed = sys.stdin.buffer.read(MAX_PASSWORD_BYTES + 2).rstrip(b"\r\n")
        password = typed.decode("utf-8", "replace")
        if not 0 < len(typed) <= MAX_PASSWORD_BYTES or password.encode() != typed:
            fix = f"send it on stdin, at most {MAX_PASSWORD_BYTES} bytes of UTF-8: … < password"
            raise InvalidError("password", f"{len(typed)} bytes", fix)
        login = Login(chosen.username, password)
    Logins(data).write(chosen.registry, login)
    owner = data.stat()
    if os.geteuid() == 0:
        os.chown(data / NAME, owner.st_uid, owner.st_gid)
    return 0
