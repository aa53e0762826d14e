"""Processes that a server with a gRPC port starts, while it is asked."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SERVER = """
import os, subprocess, sys, threading
import runtime.serving.rpc
import grpc
from concurrent import futures
from runtime import children

server = grpc.server(futures.ThreadPoolExecutor(2))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
call = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/a/b")

def ask():
    while True:
        try:
            call(b"x", timeout=5)
        except grpc.RpcError:
            pass

threading.Thread(target=ask, daemon=True).start()
for number in range(400):
    child = children.spawn(["true"], stderr=subprocess.PIPE)
    try:
        said = child.communicate(timeout=20)[1]
    except subprocess.TimeoutExpired:
        child.kill()
        said = b"it hung before it began"
    if child.returncode or said:
        print(number, child.returncode, said.decode(), flush=True)
        os._exit(1)
os._exit(0)
"""


@pytest.mark.timeout(180)
def test_a_server_that_speaks_grpc_starts_processes_that_begin() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "GRPC_ENABLE_FORK_SUPPORT"}

    ran = subprocess.run(
        [sys.executable, "-c", SERVER],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stdout
