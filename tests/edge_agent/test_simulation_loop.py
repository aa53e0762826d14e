import os
import socket

from edge_agent.simulation.loop import Loop
from runtime.clock import SystemClock


class Owner:
    def __init__(self, sock: socket.socket, *, fails: bool = False) -> None:
        self.sock, self.fails = sock, fails
        self.heard = b""

    def work(self, *, readable: bool) -> None:
        if readable:
            self.heard += self.sock.recv(100)
        if self.fails:
            raise RuntimeError("a fault of one device")


def test_one_devices_trouble_is_not_anothers() -> None:
    loop = Loop(SystemClock())
    pairs = [socket.socketpair() for _ in range(2)]
    owners = [Owner(near, fails=n == 0) for n, (near, _) in enumerate(pairs)]
    for owner, (near, far) in zip(owners, pairs, strict=True):
        loop.watch(near.fileno(), owner, writing=False)
        far.sendall(b"hello")

    loop.turn()

    assert [owner.heard for owner in owners] == [b"hello", b"hello"]
    for pair in pairs:
        for sock in pair:
            sock.close()


def test_who_has_the_number_of_a_closed_socket_is_watched_when_that_one_is_let_go() -> None:
    loop = Loop(SystemClock())
    (old, old_far), (new, new_far) = socket.socketpair(), socket.socketpair()
    before, after = Owner(old), Owner(new)
    number = old.fileno()
    loop.watch(number, before, writing=False)
    os.dup2(new.fileno(), number)  # the old one is closed, and its number given to another
    loop.watch(number, after, writing=False)

    loop.unwatch(number, before)
    new_far.sendall(b"hello")
    loop.turn()

    assert (before.heard, after.heard) == (b"", b"hello")
    for sock in (old, old_far, new, new_far):
        sock.close()
