"""One archive with all that a person needs who is to help with a device, and no secret.

    status.json      what the agent says of itself: modules, facts, vitals, troubles
    settings.json    what its operator has set, defaults included
    journal.json     the durable half of its state
    identity.json    who it is and where its registry is; never its key
    doctor.json      what `packhorse-agent doctor` finds
    system.json      memory, disk, load, what lies below the data directory and how large it is
    logs/*.log       the newest lines of the agent and of every worker
    journald.log     what the service manager kept, where there is one

Values whose name speaks of a secret, environments, and passwords in URLs are written as "***". When
it is too large to be sent, logs are halved until it fits.
"""

import gzip
import io
import re
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edge_agent import vitals
from edge_agent.doctor import examine
from edge_agent.remote.desk import Asked, Outcome
from edge_agent.remote.reading import Logs
from edge_agent.settings import AgentSettings
from edge_agent.status import Status
from runtime import children, pieces
from runtime.errors import InvalidError

LOG_BYTES = 512 * 1024
"""Of each log, before it is compressed."""
MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_LISTED = 2000
JOURNAL_S = 10.0
UNIT = "packhorse-agent"
HIDDEN = "***"
_SECRET = re.compile(
    r"secret|passw|token|credential|auth|private|api_?key|^key$|_key$", re.IGNORECASE
)
_ENVIRONMENTS = frozenset({"env", "environment"})
_URL_PASSWORD = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def redacted(value: Any) -> Any:
    """Return a plain value with "***" in place of what may be secret."""
    if isinstance(value, dict):
        return {name: _redacted_field(str(name), each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [redacted(each) for each in value]
    if isinstance(value, str):
        return _URL_PASSWORD.sub(HIDDEN, value)
    return value


def _redacted_field(name: str, value: Any) -> Any:
    if _SECRET.search(name) and value not in (None, "", False, True):
        return HIDDEN
    if name in _ENVIRONMENTS and isinstance(value, dict):
        return dict.fromkeys(value, HIDDEN)
    return redacted(value)


class Support:
    """Makes the archive."""

    def __init__(
        self, data: Path, settings: AgentSettings, status: Callable[[], Status], logs: Logs
    ) -> None:
        """Look at the agent's directory, and ask the agent itself."""
        self._data, self._settings, self._status, self._logs = data, settings, status, logs

    def __call__(self, asked: Asked) -> Outcome:
        """Return a .tar.gz that fits an answer."""
        fixed = self._facts()
        logs = {**self._lines(), "journald.log": _journald(min(JOURNAL_S, asked.left_s() / 2))}
        room = LOG_BYTES
        while True:
            cut = {name: text[-room:] for name, text in logs.items() if text}
            archive = _pack({**fixed, **cut})
            if len(archive) <= pieces.MAX_ANSWER_BYTES:
                break
            if room < 1024:  # noqa: PLR2004 - logs are not what is large
                raise InvalidError("support", f"{len(archive)} bytes", "it cannot be made smaller")
            room //= 2
        text = f"{len(archive)} bytes, {len(fixed) + len(cut)} files"
        return Outcome(text, archive, {"format": "tar.gz"})

    def _facts(self) -> dict[str, bytes]:
        settings = msgspec.to_builtins(self._settings)
        # What a command's arguments hold is nobody's business but the device's.
        settings["remote_commands"] = sorted(self._settings.remote_commands)
        return {
            "status.json": _json(msgspec.to_builtins(self._status())),
            "settings.json": _json(settings),
            "journal.json": _json(_read(self._data / "journal.json")),
            "identity.json": _json(_read(self._data / "identity.json")),
            "doctor.json": _json(msgspec.to_builtins(examine.examine(self._data))),
            "system.json": _json(
                {
                    "at": time.time(),
                    "vitals": vitals.collect(self._data),
                    "memory": _text(Path("/proc/meminfo")).splitlines(),
                    "mounts": _text(Path("/proc/self/mounts")).splitlines()[:200],
                    "files": _listing(self._data),
                }
            ),
        }

    def _lines(self) -> dict[str, bytes]:
        found = {"logs/agent.log": self._logs.read("")}
        found |= {f"logs/module-{name}.log": self._logs.read(name) for name in self._logs.modules()}
        return {
            name: _hidden("\n".join(line.text for line in lines)) for name, lines in found.items()
        }


def _json(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(redacted(value)), indent=2)


def _hidden(text: str) -> bytes:
    return _URL_PASSWORD.sub(HIDDEN, text).encode("utf-8", "replace")


def _read(path: Path) -> Any:
    """Return a JSON file's value, or why there is none."""
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(MAX_FILE_BYTES))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        return {"error": str(error)}


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError as error:
        return str(error)


def _listing(data: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for path in sorted(data.rglob("*")):
        try:
            seen = path.lstat()
        except OSError:
            continue  # it went away meanwhile
        name = str(path.relative_to(data))
        found.append({"path": name, "bytes": seen.st_size, "mode": oct(seen.st_mode)})
        if len(found) == MAX_LISTED:
            break
    return found


def _journald(timeout_s: float) -> bytes:
    """Return what systemd's journal has of this service; nothing where there is none."""
    argv = ["journalctl", "--unit", UNIT, "--lines", "2000", "--no-pager", "--quiet"]
    try:
        child = children.spawn(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    except OSError:
        return b""
    try:
        output, _ = child.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        child.kill()
        output, _ = child.communicate()
    return _hidden(output.decode("utf-8", "replace"))


def _pack(contents: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for name, data in sorted(contents.items()):
            entry = tarfile.TarInfo(f"support/{name}")
            entry.size, entry.mode, entry.mtime = len(data), 0o600, int(time.time())
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
