"""Images of a container engine: looked up, made, fetched from and given to an image registry."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from runtime.containers import payload
from runtime.containers.client import Client, explaining
from runtime.containers.errors import AbsentError, EngineRefusedError, PushError
from runtime.containers.specs import Credentials, EngineSeen, ImageSeen

Progress = Callable[[str], None]
"""Called with each line of what is being done."""
Count = Callable[[int, int], None]
"""Called with bytes that have come, and bytes that are known to be needed."""
_FAILED = 500


class Images:
    """Of one engine. All raise EngineErrors."""

    def __init__(self, client: Client) -> None:
        self._api: Any = client.api
        self._streams: Any = client.streams

    def find(self, reference: str) -> ImageSeen | None:
        """Return an image by name, digest or id; None: it is not here."""
        try:
            with explaining(f"inspect image {reference}"):
                return payload.image_seen(self._api.inspect_image(reference))
        except AbsentError:
            return None

    def build(self, context: Iterable[bytes], tag: str, progress: Progress) -> str:
        """Build the tar of a directory with a Dockerfile, without a network; return the image's id.

        Raises EngineRefusedError with what the builder said last.
        """
        with explaining(f"build {tag}"):
            told = self._streams.build(
                fileobj=iter(context),
                custom_context=True,
                tag=tag,
                rm=True,
                forcerm=True,
                network_mode="none",
                use_config_proxy=False,
                timeout=None,
                decode=True,
            )
        for line in self._told(f"build {tag}", told):
            said = str(line.get("stream") or "").strip()
            if said.startswith("Step "):
                progress(said)
        found = self.find(tag)
        if found is None:
            raise EngineRefusedError(f"build {tag}", status=_FAILED, said="it made no image")
        return found.id

    def pull(
        self,
        reference: str,
        credentials: Credentials | None,
        progress: Progress,
        count: Count | None = None,
    ) -> None:
        """Fetch an image by name, tag or digest; what `count` raises ends it.

        Without credentials those of the Docker configuration (`docker login`) are used. Raises
        AbsentError if the image registry has no such image.
        """
        name, separator, tag = reference.partition("@")
        if not separator:
            name, tag = split_tag(reference)
        with explaining(f"pull {reference}"):
            told = self._streams.pull(
                name, tag=tag, stream=True, decode=True, auth_config=_auth(credentials)
            )
        layers: dict[str, tuple[int, int]] = {}
        for line in self._told(f"pull {reference}", told):
            _pass_on(line, progress)
            if count is not None and tally(layers, line):
                done, total = zip(*layers.values(), strict=True)
                count(sum(done), sum(total))

    def push(self, reference: str, credentials: Credentials | None, progress: Progress) -> str:
        """Give an image NAME:TAG to its image registry; return the manifest's digest."""
        name, tag = split_tag(reference)
        with explaining(f"push {reference}"):
            told = self._streams.push(
                name, tag=tag, stream=True, decode=True, auth_config=_auth(credentials)
            )
        digest = ""
        try:
            for line in self._told(f"push {reference}", told):
                _pass_on(line, progress)
                digest = str((line.get("aux") or {}).get("Digest") or digest)
        except EngineRefusedError as error:
            raise PushError(f"push {reference}: the image registry says: {error.said}") from error
        if not digest:
            raise PushError(f"push {reference}: the image registry named no digest")
        return digest

    def tag(self, image: str, reference: str) -> None:
        """Give an image another name."""
        name, tag = split_tag(reference)
        with explaining(f"tag {reference}"):
            self._api.tag(image, name, tag=tag, force=True)

    def load(self, archive: Iterable[bytes]) -> None:
        """Take images out of a tar, as `docker save` writes it; what `archive` raises ends it."""
        with explaining("load an image"):
            # Its own method reads no stream, and gives up after the time-out of an answer.
            api = self._streams
            url = api._url("/images/load")  # noqa: SLF001 - see above
            # A chunk of nothing would be the end.
            answer = api._post(url, data=filter(None, archive), stream=True)  # noqa: SLF001
            api._raise_for_status(answer)  # noqa: SLF001
            told = api._stream_helper(answer, decode=True)  # noqa: SLF001
        for _ in self._told("load an image", told):
            pass

    def stacks(self) -> tuple[tuple[str, ...], ...]:
        """Return the layers of every image that is here, unpacked, from the lowest up."""
        with explaining("list images"):
            listed = {str(each["Id"]) for each in self._api.images()}
        found = (self.find(image) for image in listed)
        return tuple(each.layers for each in found if each is not None)

    def engine(self) -> EngineSeen:
        """Return what the engine says of itself."""
        with explaining("ask the engine what it is"):
            return payload.engine_seen(self._api.info(), self._api.version())

    def remove(self, reference: str) -> None:
        """Forget a name, and the image if it was the last; one that is not there is fine."""
        with contextlib.suppress(AbsentError), explaining(f"remove image {reference}"):
            self._api.remove_image(reference)

    def _told(self, what: str, lines: Any) -> Iterator[dict[str, Any]]:
        """Yield what is told of some work; raise with what went wrong."""
        with explaining(what), contextlib.closing(lines):
            for line in lines:
                if "error" in line:
                    said = " ".join(str(line["error"]).split())
                    raise EngineRefusedError(what, status=_FAILED, said=said)
                yield line


def tally(layers: dict[str, tuple[int, int]], line: Mapping[str, Any]) -> bool:
    """Note what a line of a pull says of a layer's bytes; say whether it said anything."""
    layer, detail = str(line.get("id") or ""), line.get("progressDetail") or {}
    total = int(detail.get("total") or 0)
    if line.get("status") == "Downloading" and total:
        layers[layer] = (int(detail.get("current") or 0), total)
    elif line.get("status") == "Download complete" and layer in layers:
        layers[layer] = (layers[layer][1], layers[layer][1])
    else:
        return False
    return True


def split_tag(reference: str) -> tuple[str, str]:
    """Return the name and the tag of a reference; "latest" if it has none."""
    name, separator, tag = reference.rpartition(":")
    if not separator or "/" in tag:
        return reference, "latest"
    return name, tag


def _pass_on(line: Mapping[str, Any], progress: Progress) -> None:
    status = str(line.get("status") or "").strip()
    if status and not line.get("progressDetail"):
        progress(f"{line['id']}: {status}" if line.get("id") else status)


def _auth(credentials: Credentials | None) -> dict[str, str] | None:
    if credentials is None:
        return None
    return {"username": credentials.username, "password": credentials.password}
