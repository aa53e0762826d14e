"""An image as a tar that an engine takes in, made while it is sent: nothing is written twice.

oci-layout, index.json   for engines that keep images as the OCI describes them
manifest.json            for the others; it names every layer, also those that are not sent
blobs/sha256/…           configuration, manifest, layers
"""

import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from edge_agent.containers import layerfiles
from edge_agent.containers.cargo import Seen
from runtime.imageregistry.manifests import OCI_INDEX

_BLOCK = 512
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def archive(seen: Seen, layers: Mapping[str, Path]) -> Iterator[bytes]:
    """Yield the tar of an image with these layers, by digest."""
    yield from _member("oci-layout", [_LAYOUT], len(_LAYOUT))
    for digest, data in seen.documents.items():
        yield from _member(_place(digest), [data], len(data))
    for digest, path in layers.items():
        yield from _member(_place(digest), layerfiles.chunks(path), path.stat().st_size)
    entry = {
        "mediaType": seen.media_type,
        "digest": seen.digest,
        "size": len(seen.documents[seen.digest]),
    }
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]}
    listed = {
        "Config": _place(seen.manifest.config.digest),
        "RepoTags": [],
        "Layers": [_place(each.digest) for each in seen.manifest.layers],
    }
    for name, value in (("index.json", index), ("manifest.json", [listed])):
        data = json.dumps(value).encode()
        yield from _member(name, [data], len(data))
    yield bytes(2 * _BLOCK)


def _place(digest: str) -> str:
    return f"blobs/{digest.replace(':', '/')}"


def _member(name: str, data: Iterable[bytes], size: int) -> Iterator[bytes]:
    head = tarfile.TarInfo(name)
    head.size, head.mode = size, 0o444
    yield head.tobuf(tarfile.GNU_FORMAT)
    yield from data
    yield bytes(-size % _BLOCK)
