"""The registry's HTTP API as Python: what the command line uses, and what scripts may use.

    with Client("https://registry.example:8443", key, ca_pem) as registry:
        registry.version("digits", "latest").version

Calls that change nothing when they are made twice are tried again, with jitter, when the
connection fails or the registry says that waiting helps. Raises UnreachableError when it does not
answer, AbsentError or ClientError with the registry's own words when it refuses.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Self

import httpx2
import zstandard

from cloud import schema, shapes
from cloud.errors import AbsentError
from cloud.transport import ATTEMPTS, TIMEOUT_S, Transport, path_of
from runtime import digests, files
from runtime.digests import Digest
from runtime.errors import IntegrityError

_UPLOAD_LEVEL = 3

Progress = Callable[[int], None]
"""Is told how many more bytes of content have passed; negative when an attempt was in vain."""


class Client:
    """One registry, with one key. Not for use by several threads at once."""

    def __init__(
        self,
        url: str,
        key: str,
        ca_pem: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        attempts: int = ATTEMPTS,
    ) -> None:
        """Trust `ca_pem` alone, or without one what this machine trusts. Connects when used."""
        self._transport = Transport(url, key, ca_pem, timeout_s=timeout_s, attempts=attempts)

    def __enter__(self) -> Self:
        """Use as a context."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.http.close()

    def models(self) -> Iterator[shapes.Model]:
        """Yield all models by name."""
        return self._transport.pages("/models", schema.Page[shapes.Model])

    def model(self, name: str) -> shapes.Model:
        """Return one model."""
        return self._transport.get(path_of("/models/{}", name), shapes.Model)

    def versions(self, name: str) -> Iterator[shapes.Version]:
        """Yield the versions of a model, oldest first."""
        return self._transport.pages(
            path_of("/models/{}/versions", name), schema.Page[shapes.Version]
        )

    def version(self, name: str, version: str = "latest") -> shapes.Version:
        """Return a version by number, or the newest."""
        return self._transport.get(path_of("/models/{}/versions/{}", name, version), shapes.Version)

    def index(self, name: str, version: str) -> bytes:
        """Return the bytes of a version's index."""
        return self._transport.call(
            "GET", path_of("/models/{}/versions/{}/index", name, version)
        ).content

    def register(self, name: str, index_bytes: bytes) -> shapes.Registered:
        """Register an index whose blobs are all uploaded. Twice gives the same version."""
        answer = self._transport.call(
            "POST",
            path_of("/models/{}/versions", name),
            again=True,
            content=index_bytes,
            headers={"Content-Type": "application/octet-stream"},
        )
        return shapes.Registered.model_validate_json(answer.content)

    def has_blob(self, digest: Digest) -> bool:
        """Say whether the registry has a blob."""
        try:
            self._transport.call("HEAD", path_of("/blobs/{}", digest))
        except AbsentError:
            return False
        return True

    def put_blob(self, digest: Digest, path: Path, progress: Progress = lambda _: None) -> None:
        """Upload a file, compressed on the way."""

        def attempt() -> httpx2.Response:
            with path.open("rb") as file, _Undo(progress) as counted:
                return self._transport.http.put(
                    path_of("/blobs/{}", digest),
                    content=_compressed(file, counted.add),
                    headers={"Content-Encoding": "zstd"},
                )

        self._transport.attempt(attempt, again=True)

    def fetch_blob(
        self, digest: Digest, target: Path, *, mode: int, progress: Progress = lambda _: None
    ) -> None:
        """Download a blob to `target`, durably; raise IntegrityError if its bytes are wrong."""

        def attempt() -> httpx2.Response:
            with (
                self._transport.http.stream("GET", path_of("/blobs/{}", digest)) as answer,
                _Undo(progress) as counted,
            ):
                if not answer.is_success:
                    answer.read()
                    return answer
                got = hashlib.sha256()
                with files.replacing(target, mode=mode) as file:
                    for chunk in answer.iter_bytes(digests.CHUNK_BYTES):
                        got.update(chunk)
                        file.write(chunk)
                        counted.add(len(chunk))
                    if got.hexdigest() != digest:
                        raise IntegrityError(str(target), wanted=digest, got=got.hexdigest())
            return answer

        self._transport.attempt(attempt, again=True)

    def make_token(self, wish: shapes.NewToken) -> shapes.Token:
        """Make an enrolment token."""
        return self._transport.post("/devices/tokens", shapes.Token, wish)

    def devices(self, selector: str | None = None) -> Iterator[shapes.Device]:
        """Yield the devices that a selector matches, or all, by id."""
        return self._transport.pages("/devices", schema.Page[shapes.Device], selector=selector)

    def device(self, device: str) -> shapes.Device:
        """Return one device."""
        return self._transport.get(path_of("/devices/{}", device), shapes.Device)

    def set_labels(self, device: str, changes: shapes.LabelChanges) -> shapes.Device:
        """Set and remove labels."""
        answer = self._transport.call(
            "PATCH", path_of("/devices/{}/labels", device), again=True, json=changes.model_dump()
        )
        return shapes.Device.model_validate_json(answer.content)

    def revoke(self, device: str) -> shapes.Device:
        """Shut a device out."""
        return self._transport.post(
            path_of("/devices/{}/revoke", device), shapes.Device, again=True
        )

    def deploy(self, wish: shapes.NewDeployment) -> shapes.Deployment:
        """Make a deployment."""
        return self._transport.post("/deployments", shapes.Deployment, wish)

    def deployments(self) -> Iterator[shapes.Deployment]:
        """Yield all deployments, newest first."""
        return self._transport.pages("/deployments", schema.Page[shapes.Deployment])

    def deployment(self, deployment: str) -> shapes.DeploymentDetail:
        """Return a deployment and where each of its devices is."""
        path = path_of("/deployments/{}", deployment)
        detail = first = self._transport.get(path, shapes.DeploymentDetail)
        devices = list(first.devices)
        while detail.next is not None:
            detail = self._transport.get(path, shapes.DeploymentDetail, cursor=detail.next)
            devices += detail.devices
        return first.model_copy(update={"devices": devices, "next": None})

    def cancel(self, deployment: str) -> shapes.Deployment:
        """Withdraw a deployment."""
        return self._transport.post(
            path_of("/deployments/{}/cancel", deployment), shapes.Deployment, again=True
        )

    def retry(self, deployment: str) -> shapes.Deployment:
        """Have devices that refused try again."""
        return self._transport.post(path_of("/deployments/{}/retry", deployment), shapes.Deployment)

    def records(self, **query: Any) -> schema.Page[shapes.Record]:
        """Return a page of records; see /api/v1/telemetry/records for what may be asked."""
        return self._transport.get("/telemetry/records", schema.Page[shapes.Record], **query)

    def stats(self, model: str, *, since: float | None = None) -> shapes.ModelStats:
        """Return what each version of a model did."""
        return self._transport.get("/telemetry/stats", shapes.ModelStats, model=model, since=since)


class _Undo:
    """Takes progress back unless the attempt that made it succeeds."""

    def __init__(self, progress: Progress) -> None:
        self._progress, self._done = progress, 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._progress(-self._done)

    def add(self, count: int) -> None:
        self._done += count
        self._progress(count)


def _compressed(file: BinaryIO, progress: Progress) -> Iterator[bytes]:
    compressor = zstandard.ZstdCompressor(level=_UPLOAD_LEVEL).compressobj()
    for chunk in digests.chunks(file):
        if piece := compressor.compress(chunk):
            yield piece
        progress(len(chunk))
    yield compressor.flush()
