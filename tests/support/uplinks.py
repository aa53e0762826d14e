"""A registry that is a folder: what the agent needs of one, without a broker.

    {folder}/desired.json     what it wants; read again whenever it changes
    {folder}/batches.bin      telemetry that was taken: length, batch, length, batch…
    {folder}/reported.json    the last report
    {folder}/command.json     a command; removed once it is heard
    {folder}/result-{id}.json what came of a command
    {folder}/offline          while this exists, nothing gets through

Blobs are asked for by HTTP, from tests.support.httpfiles.
"""

import contextlib
import os
import threading
import urllib.request
from pathlib import Path

from edge_agent.uplink import UplinkHooks
from runtime import batches, files, messages
from runtime.batches import Batch
from runtime.errors import LinkError
from runtime.messages import Ack, Command, CommandResult, Desired, FetchRequest, FetchResponse

POLL_S = 0.02


class FolderUplink:
    """The agent's side."""

    def __init__(self, folder: Path, ask_url: str) -> None:
        self.folder, self._ask_url = folder, ask_url
        self._hooks: UplinkHooks | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._online = False

    @property
    def connected(self) -> bool:
        return self._online

    def start(self, hooks: UplinkHooks) -> None:
        self._hooks = hooks
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        self._stopping.set()
        self._thread.join(timeout_s)

    def ask(self, request: FetchRequest) -> FetchResponse:
        self._require_online()
        post = urllib.request.Request(self._ask_url, messages.encode(request))  # noqa: S310 - http
        try:
            with urllib.request.urlopen(post, timeout=10) as response:  # noqa: S310 - as above
                return messages.decode(FetchResponse, response.read())
        except OSError as error:
            raise LinkError(str(error)) from error

    def publish(self, batch: bytes) -> None:
        self._require_online()
        with (self.folder / "batches.bin").open("ab") as file:
            file.write(len(batch).to_bytes(4, "big") + batch)
            file.flush()
            os.fsync(file.fileno())
        header, _ = batches.unwrap(batch)
        assert self._hooks is not None
        self._hooks.ack(messages.encode(Ack(header.epoch, stored=(header.sequence,))))

    def answer(self, result: CommandResult) -> None:
        self._require_online()
        files.write_atomic(self.folder / f"result-{result.id}.json", messages.encode(result))

    def changed(self, *, urgent: bool) -> None:
        if self._hooks is not None and urgent:
            files.write_atomic(
                self.folder / "reported.json", messages.encode(self._hooks.compose())
            )

    def rebuild(self) -> None:
        """Nothing to rebuild."""

    def queue(self, fleet: int) -> None:
        pass

    def share(self, fleet: int) -> None:
        """Nobody to share with."""

    def _require_online(self) -> None:
        if not self._online:
            raise LinkError("the registry is not reached")

    def _watch(self) -> None:
        assert self._hooks is not None
        heard = b""
        while not self._stopping.wait(POLL_S):
            online = not (self.folder / "offline").exists()
            if online and not self._online:
                self._online, heard = True, b""
                self._hooks.connected()
            if not online and self._online:
                self._online = False
                self._hooks.disconnected("offline")
            with contextlib.suppress(FileNotFoundError):
                said = (self.folder / "desired.json").read_bytes()
                if online and said != heard:
                    heard = said
                    self._hooks.desired(said)
            with contextlib.suppress(FileNotFoundError):
                asked = (self.folder / "command.json").read_bytes()
                (self.folder / "command.json").unlink()
                self._hooks.command(asked)


def desire(folder: Path, desired: Desired) -> None:
    """Let the registry want something."""
    files.write_atomic(folder / "desired.json", messages.encode(desired))


def command(folder: Path, asked: Command) -> None:
    """Let the registry ask for something."""
    files.write_atomic(folder / "command.json", messages.encode(asked))


def result(folder: Path, asked: Command) -> CommandResult | None:
    """Return what came of a command; None: nothing yet."""
    with contextlib.suppress(FileNotFoundError):
        return messages.decode(CommandResult, (folder / f"result-{asked.id}.json").read_bytes())
    return None


def taken(folder: Path) -> list[Batch]:
    """Return the batches that the registry has taken, each number once."""
    with contextlib.suppress(FileNotFoundError):
        data = (folder / "batches.bin").read_bytes()
        found: dict[tuple[str, int], Batch] = {}
        while data:
            size = int.from_bytes(data[:4], "big")
            if len(data) < 4 + size:
                break  # the agent was killed in the middle
            batch = batches.decode_batch(data[4 : 4 + size])
            found.setdefault((batch.epoch, batch.sequence), batch)
            data = data[4 + size :]
        return list(found.values())
    return []
