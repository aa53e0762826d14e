"""gRPC traffic as a process of its own: ADDRESS kept|fresh. Says how far it is, a line each time.

Its own, since gRPC and a fork in the same process do not go together, and tests start processes.
"""

import json
import signal
import sys
import threading

import grpc

METHOD = "/inference.GRPCInferenceService/ModelInfer"
OPTIONS = (("grpc.use_local_subchannel_pool", 1),)


def ask(channel: grpc.Channel, found: list[str]) -> None:
    """Ask once; note what failed, or the answer."""
    asked = channel.unary_unary(METHOD).future(b"x", timeout=20)
    failed = asked.exception() is not None
    found.append(f"{asked.code()} {asked.details()}" if failed else asked.result().decode())


def ask_on_one(address: str, ended: threading.Event, found: list[str]) -> None:
    """Ask on one connection."""
    with grpc.insecure_channel(address, OPTIONS) as channel:
        while not ended.is_set():
            ask(channel, found)


def ask_on_many(address: str, ended: threading.Event, found: list[str]) -> None:
    """Ask on a new connection each time."""
    while not ended.is_set():
        with grpc.insecure_channel(address, OPTIONS) as channel:
            ask(channel, found)


def main(address: str, kind: str) -> None:
    """Ask from some threads until SIGTERM."""
    ended, found = threading.Event(), []
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    work = {"kept": ask_on_one, "fresh": ask_on_many}[kind]
    threads = [threading.Thread(target=work, args=(address, ended, found)) for _ in range(2)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        ended.wait(0.05)
        tell(found)
    for thread in threads:
        thread.join()
    tell(found)


def tell(found: list[str]) -> None:
    """Write what was found so far."""
    seen = list(found)
    failures = [one for one in seen if one.startswith("StatusCode")]
    told = {"answers": len(seen) - len(failures), "failures": failures, "kinds": sorted({*seen})}
    sys.stdout.write(json.dumps(told) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
