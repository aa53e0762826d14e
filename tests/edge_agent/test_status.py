"""What whoever asks an agent how it is hears, if it is no agent or none any more."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent import status
from edge_agent.errors import NotRunningError
from runtime.errors import InvalidError


@contextlib.contextmanager
def answering(directory: Path, said: bytes) -> Iterator[None]:
    """Have somebody at the agent's socket who says this to the first who asks."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(directory / status.SOCKET_NAME))
        listening.listen()

        def answer() -> None:
            asker, _ = listening.accept()
            with asker, contextlib.suppress(OSError):  # who has heard enough hangs up
                asker.sendall(said)

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


@pytest.mark.parametrize("said", [b"", b'{"pid": 4'])
def test_an_agent_that_dies_while_it_answers_is_not_running(tmp_path: Path, said: bytes) -> None:
    with answering(tmp_path, said), pytest.raises(NotRunningError, match="while it answered"):
        status.ask(tmp_path)


@pytest.mark.parametrize("said", [b"hello\n", b'{"pid": 4}\n', b"x" * (status.MAX_BYTES + 1)])
def test_whoever_is_no_agent_is_told_so(tmp_path: Path, said: bytes) -> None:
    with answering(tmp_path, said), pytest.raises(InvalidError, match="is it an agent"):
        status.ask(tmp_path)


def test_where_nobody_listens_no_agent_runs(tmp_path: Path) -> None:
    with pytest.raises(NotRunningError, match="no agent answers"):
        status.ask(tmp_path)
