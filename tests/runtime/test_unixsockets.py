import http.server
import socketserver
import stat
import threading
from pathlib import Path

import pytest

from runtime import unixsockets


def deep(directory: Path, *, length: int) -> Path:
    """Return a socket path below `directory` with at least so many bytes."""
    while len(str(directory)) < length:
        directory /= "a-directory-of-a-patient-person"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / "module.sock"


@pytest.mark.parametrize("length", [1, 95, 300])
def test_both_sides_meet_at_a_path_of_any_length(length: int, tmp_path: Path) -> None:
    path = deep(tmp_path, length=length)

    with (
        unixsockets.listen(path, mode=0o660, backlog=5) as listener,
        unixsockets.connect(path, timeout_s=5.0) as client,
    ):
        accepted, _ = listener.accept()
        with accepted:
            client.sendall(b"hello")
            assert accepted.recv(5) == b"hello"

    assert stat.S_IMODE(path.stat().st_mode) == 0o660


def test_a_socket_of_a_dead_process_is_replaced(tmp_path: Path) -> None:
    path = deep(tmp_path, length=200)
    unixsockets.listen(path, mode=0o600, backlog=1).close()
    with pytest.raises(ConnectionRefusedError):
        unixsockets.connect(path, timeout_s=1.0)

    with (
        unixsockets.listen(path, mode=0o600, backlog=1),
        unixsockets.connect(path, timeout_s=1.0),
    ):
        pass


def test_nobody_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        unixsockets.connect(tmp_path / "nobody.sock", timeout_s=1.0)


def test_http_is_spoken_over_a_long_path(tmp_path: Path) -> None:
    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello")

        def log_message(self, *_: object) -> None:
            pass

        def address_string(self) -> str:
            return "unix"

    path = deep(tmp_path, length=200)
    with unixsockets.listen(path, mode=0o600, backlog=5) as listener:

        def serve() -> None:
            accepted, _ = listener.accept()
            with accepted:
                Hello(accepted, ("unix", 0), socketserver.BaseServer(("", 0), Hello))

        thread = threading.Thread(target=serve)
        thread.start()
        connection = unixsockets.HTTPConnection(path, timeout_s=5.0)
        connection.request("GET", "/")
        assert connection.getresponse().read() == b"hello"
        connection.close()
        thread.join(5.0)
