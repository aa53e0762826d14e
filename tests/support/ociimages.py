"""Images made of bytes, put into an image registry by its own API: no engine needed.

camera = ociimages.put(registry, "camera", [layer("base", 300_000), layer("app", 20_000)])
camera.name       # 127.0.0.1:PORT/camera@sha256:… of an index with one manifest a platform
"""

import base64
import gzip
import hashlib
import http.client
import io
import json
import random
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from runtime.containers.specs import Credentials
from runtime.imageregistry.manifests import OCI_INDEX, OCI_MANIFEST
from tests.support.brokers import HOST
from tests.support.imageregistry import ImageRegistry

_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
HERE = "amd64"


@dataclass(frozen=True)
class Put:
    """An image in a registry."""

    port: int
    repository: str
    index: str
    layers: tuple[int, ...]
    """How large they are, packed."""

    @property
    def name(self) -> str:
        """By digest."""
        return self.by(self.port)

    def by(self, port: int) -> str:
        """Return the name of it as seen through another port."""
        return f"{HOST}:{port}/{self.repository}@{self.index}"


def layer(name: str, size: int, seed: int = 1) -> bytes:
    """Return a layer with one file that does not pack."""
    data, packed = random.Random(f"{name}{seed}").randbytes(size), io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        head = tarfile.TarInfo(name)
        head.size = size
        tar.addfile(head, io.BytesIO(data))
    return packed.getvalue()


def put(
    registry: ImageRegistry,
    repository: str,
    layers: Sequence[bytes],
    *,
    tag: str = "",
    architectures: Sequence[str] = (HERE, "arm64"),
    login: Credentials | None = None,
    systems: str = "linux",
) -> Put:
    """Put an image into a registry, the same for each architecture but for its configuration."""
    door = _Door(registry.port, repository, login)
    packed = [gzip.compress(each, mtime=0) for each in layers]
    described = [_described(_LAYER, each) for each in packed]
    for each in packed:
        door.blob(each)
    entries = []
    for architecture in architectures:
        config = {
            "architecture": architecture,
            "os": systems,
            "config": {"Cmd": ["sleep", "600"]},
            "rootfs": {"type": "layers", "diff_ids": [digest(each) for each in layers]},
        }
        body = json.dumps(config).encode()
        door.blob(body)
        manifest = _written(OCI_MANIFEST, config=_described(_CONFIG, body), layers=described)
        door.manifest(digest(manifest), OCI_MANIFEST, manifest)
        platform = {"os": systems, "architecture": architecture}
        entries.append(_described(OCI_MANIFEST, manifest) | {"platform": platform})
    index = _written(OCI_INDEX, manifests=entries)
    door.manifest(tag or digest(index), OCI_INDEX, index)
    return Put(registry.port, repository, digest(index), tuple(map(len, packed)))


def digest(data: bytes) -> str:
    """Return the name of bytes in a registry."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _written(media_type: str, **fields: object) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": media_type, **fields}).encode()


def _described(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


class _Door:
    """Puts things into one repository."""

    def __init__(self, port: int, repository: str, login: Credentials | None) -> None:
        self._port, self._repository, self._said = port, repository, {}
        if login is not None:
            pair = f"{login.username}:{login.password}".encode()
            self._said = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}

    def blob(self, data: bytes) -> None:
        where = urlsplit(self._ask("POST", f"/v2/{self._repository}/blobs/uploads/", b"", "", 202))
        query = f"{where.query}&digest={digest(data)}"
        self._ask("PUT", f"{where.path}?{query}", data, "application/octet-stream", 201)

    def manifest(self, reference: str, media_type: str, data: bytes) -> None:
        path = f"/v2/{self._repository}/manifests/{reference}"
        self._ask("PUT", path, data, media_type, 201)

    def _ask(self, method: str, path: str, data: bytes, media_type: str, wanted: int) -> str:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
        try:
            connection.request(method, path, data, {"Content-Type": media_type, **self._said})
            answer = connection.getresponse()
            assert answer.status == wanted, answer.read()
            return answer.headers.get("Location", "")
        finally:
            connection.close()
