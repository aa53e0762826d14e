"""What we do with a container engine: containers, networks, volumes, files in them, streams.

All raise EngineErrors. Images have a module of their own.
"""

import contextlib
import io
import json
import tarfile
import time
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.containers import payload
from runtime.containers.client import Client, explaining
from runtime.containers.errors import AbsentError, EngineRefusedError, EngineUnreachableError
from runtime.containers.images import Images
from runtime.containers.places import Places, filters, tolerating
from runtime.containers.specs import Abilities, Address, ContainerSeen, ContainerSpec, Event

MAX_READ_BYTES = 4 << 20
MAX_LINE_BYTES = 16 << 10
_UNCHANGED = 304
_CONFLICT = 409


@dataclass(frozen=True)
class File:
    """A small file that goes into a container's volume."""

    name: str
    data: bytes
    mode: int = 0o444
    owner: int = 0


class Engine(Places):
    """An engine that answers. Safe for several threads."""

    def __init__(self, address: Address) -> None:
        """Connect; raises EngineUnreachableError or InvalidError."""
        self._client = Client(address)
        self._api: Any = self._client.api
        self._streams: Any = self._client.streams
        self.url = self._client.url
        self.images = Images(self._client)
        self._flowing: weakref.WeakSet[Stream] = weakref.WeakSet()

    def close(self) -> None:
        """Let go of every connection; what streams ends, whichever thread reads it."""
        for stream in list(self._flowing):
            stream.close()
        self._client.close()

    def version(self) -> str:
        """Return what it is, and which: for people."""
        with explaining("ask for the engine's version"):
            told = self._api.version()
        parts: Any = told.get("Components") or ({},)
        return f"{parts[0].get('Name') or 'engine'} {told.get('Version') or '?'}"

    def abilities(self) -> Abilities:
        """Return what it can do of what not every engine can."""
        with explaining("ask what the engine can do"):
            told = self._api.info()
        podman = self.version().startswith("Podman")
        return Abilities(limits_memory=bool(told.get("MemoryLimit")), gives_gpus=not podman)

    def create(self, name: str, spec: ContainerSpec) -> str:
        """Make a container, not started; return its id."""
        with explaining(f"make container {name}"):
            made = self._api.create_container_from_config(payload.container(spec), name)
            return str(made["Id"])

    def start(self, container: str) -> None:
        """Start a container; one that runs is fine."""
        with explaining(f"start container {container[:40]}"):
            self._api.start(container)

    def signal(self, container: str, name: str) -> None:
        """Send its first process a signal; a container that does not run is fine."""
        with (
            contextlib.suppress(AbsentError),
            tolerating(_CONFLICT),
            explaining(f"signal container {container[:40]}"),
        ):
            self._api.kill(container, name)

    def stop(self, container: str, *, grace_s: int) -> None:
        """Ask it to end, kill it after the grace; return when it has ended. Gone is fine."""
        with contextlib.suppress(AbsentError), explaining(f"stop container {container[:40]}"):
            self._api.stop(container, timeout=grace_s)

    def remove(self, container: str) -> None:
        """Kill and forget a container; one that is not there is fine."""
        with (
            contextlib.suppress(AbsentError),
            tolerating(_CONFLICT),  # somebody else is removing it
            explaining(f"remove container {container[:40]}"),
        ):
            self._api.remove_container(container, force=True, v=True)

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        with explaining(f"rename container {container[:40]}"):
            self._api.rename(container, name)

    def unpause(self, container: str) -> None:
        """Let a container go on that somebody paused."""
        with tolerating(_CONFLICT), explaining(f"unpause container {container[:40]}"):
            self._api.unpause(container)

    def limit(
        self, container: str, *, cpu: float | None, memory_mb: int | None, restart: str
    ) -> None:
        """Change what a container may use, and whether it is restarted."""
        body = payload.limits(cpu, memory_mb) | {"RestartPolicy": {"Name": restart}}
        with explaining(f"limit container {container[:40]}"):
            url = self._api._url("/containers/{0}/update", container)  # noqa: SLF001 - its own method knows no NanoCpus
            self._api._result(self._api._post_json(url, data=body), True)  # noqa: SLF001 - as above

    def wait(self, container: str, *, timeout_s: float) -> int:
        """Return the exit code once it ends; raises EngineUnreachableError if it does not."""
        with explaining(f"wait for container {container[:40]}"):
            return int(self._api.wait(container, timeout=timeout_s)["StatusCode"])

    def containers(self, labels: Mapping[str, str]) -> tuple[ContainerSeen, ...]:
        """Return all that have these labels ("": with any value), whatever their state."""
        with explaining("list containers"):
            listed = self._api.containers(all=True, filters={"label": filters(labels)})
        found = (self.container(each["Id"]) for each in listed)
        return tuple(each for each in found if each is not None)

    def container(self, name: str) -> ContainerSeen | None:
        """Return a container by id or name; None: there is none."""
        try:
            with explaining(f"inspect container {name[:40]}"):
                return payload.container_seen(self._api.inspect_container(name))
        except AbsentError:
            return None

    def tail(self, container: str, lines: int) -> tuple[str, ...]:
        """Return the last lines that a container wrote; () if it is gone."""
        try:
            with explaining(f"read the log of container {container[:40]}"):
                written = self._api.logs(container, stdout=True, stderr=True, tail=lines)
        except EngineRefusedError:
            return ()
        return tuple(
            line[:MAX_LINE_BYTES].decode(errors="replace") for line in written.splitlines()
        )

    def follow(self, container: str, *, lines: int, follow: bool) -> "Stream":
        """Return the last lines with their times, each "TIME TEXT", then those that it writes."""
        with explaining(f"follow the log of container {container[:40]}"):
            chunks = self._streams.logs(
                container,
                stdout=True,
                stderr=True,
                stream=True,
                follow=follow,
                timestamps=True,
                tail=lines,
            )
        return self._flow(chunks, f"follow the log of container {container[:40]}")

    def events(self, labels: Mapping[str, str]) -> Iterator[Event]:
        """Return what changes from now on among things with these labels, until the link breaks."""
        with explaining("listen to events"):
            stream = self._streams.events(filters={"label": filters(labels)})
        return _events(self._flow(stream, "listen to events"))

    def write_files(self, container: str, directory: str, files: tuple[File, ...]) -> None:
        """Put files into a directory of a container that is made, started or not."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as tar:
            for file in files:
                member = tarfile.TarInfo(file.name)
                member.size, member.mode = len(file.data), file.mode
                member.uid = member.gid = file.owner
                member.mtime = time.time()  # who follows a file sees by this that it is another
                tar.addfile(member, io.BytesIO(file.data))
        self.unpack(container, directory, packed.getvalue())

    def unpack(self, container: str, directory: str, tar: Any) -> None:
        """Unpack a tar (bytes, or a file to read) in a directory of a container that is made."""
        with explaining(f"write to {directory} of container {container[:40]}"):
            self._streams.put_archive(container, directory, tar)  # may take its time

    def pack(self, container: str, path: str) -> "Stream":
        """Return the bytes of a tar of what is at a path of a container."""
        with explaining(f"read {path} of container {container[:40]}"):
            chunks, _ = self._streams.get_archive(container, path)
        return self._flow(chunks, f"read {path} of container {container[:40]}")

    def _flow(self, source: Any, what: str) -> "Stream":
        stream = Stream(source, what)
        self._flowing.add(stream)
        return stream

    def read_files(self, container: str, directory: str) -> dict[str, bytes]:
        """Return the small files right in a directory, by name; {} if there is no such place."""
        packed = bytearray()
        try:
            with contextlib.closing(self.pack(container, directory)) as chunks:
                for chunk in chunks:
                    packed += chunk
                    if len(packed) > MAX_READ_BYTES:
                        raise EngineUnreachableError(
                            f"{directory}: more than {MAX_READ_BYTES} bytes"
                        )
        except AbsentError:
            return {}
        found = {}
        try:
            with tarfile.open(fileobj=io.BytesIO(bytes(packed))) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.isfile() else None
                    if file is not None and member.name.count("/") == 1:
                        found[member.name.partition("/")[2]] = file.read()
        except tarfile.TarError as error:  # it changed while it was read
            raise EngineUnreachableError(f"{directory} of {container[:40]}: {error}") from error
        return found


def _events(stream: "Stream") -> Iterator[Event]:
    with contextlib.closing(stream):
        for line in stream:
            told = json.loads(line)
            yield Event(
                kind=str(told.get("Type") or ""),
                action=str(told.get("Action") or ""),
                labels=(told.get("Actor") or {}).get("Attributes") or {},
            )


class Stream:
    """Bytes that come when they come. `close`, from any thread, ends it."""

    def __init__(self, source: Any, what: str) -> None:
        self._source, self._what = source, what

    def __iter__(self) -> Iterator[bytes]:
        """Yield what comes, as it comes."""
        with explaining(self._what):
            yield from self._source

    def close(self) -> None:
        """End it."""
        # A socket that the engine has closed already cannot be shut down.
        with contextlib.suppress(OSError, AttributeError):
            self._source.close()
