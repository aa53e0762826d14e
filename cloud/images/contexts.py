"""Build contexts: a Dockerfile and the layers that it adds, streamed to an engine or on disk."""

import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cloud.images import recipe
from cloud.images.layers import Layer
from cloud.images.recipe import Recipe
from runtime import digests, files

DOCKERFILE, SBOM = "Dockerfile", "sbom.cdx.json"


def named(layers: Sequence[Layer]) -> dict[str, Layer]:
    """Return layers by the names that they have in a context, in order."""
    return {f"{number:02}-{layer.sha256[:12]}.tar": layer for number, layer in enumerate(layers)}


def stream(made: Recipe, layers: Mapping[str, Layer]) -> Iterator[bytes]:
    """Yield the tar of a context, without a copy of it on disk."""
    text = recipe.dockerfile(made).encode()
    yield _header(DOCKERFILE, len(text)) + text + _padding(len(text))
    for name, layer in layers.items():
        yield _header(name, layer.size_bytes)
        with layer.path.open("rb") as file:
            yield from digests.chunks(file)
        yield _padding(layer.size_bytes)
    yield bytes(2 * tarfile.BLOCKSIZE)


def write(directory: Path, made: Recipe, layers: Mapping[str, Layer], sbom: bytes) -> None:
    """Write a context to a directory, which appears whole or not at all."""
    staging = directory.with_name(f".{directory.name}{files.TEMPORARY_SUFFIX}")
    files.remove(staging)
    files.make_directory(staging, mode=0o755)
    try:
        (staging / DOCKERFILE).write_text(recipe.dockerfile(made))
        (staging / SBOM).write_bytes(sbom)
        for name, layer in layers.items():
            shutil.copyfile(layer.path, staging / name)
        staging.rename(directory)
    except BaseException:
        files.remove(staging)
        raise


def _header(name: str, size: int) -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.mode = size, 0o644
    return member.tobuf(tarfile.GNU_FORMAT)


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)
