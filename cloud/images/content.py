"""A bundle as layers of an image: each large file its own, so that what a new version kept is kept.

/bundle/<path of each file>       one layer for each large file, one for all small ones
/bundle/.index.json               the index, by which the server knows what it has
/bundle/.wheels/<wheel>/…         the bundle's own wheels that fit, unpacked: the root is read-only
/models/<model>/<version>         a link to /bundle, so that no large layer names the version
"""

import hashlib
import io
import shutil
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from cloud.hosting.errors import BuildError
from cloud.images import layers, platforms
from cloud.images.layers import Entry, Layer
from cloud.images.platforms import Platform
from runtime import digests, files
from runtime.bundle import index
from runtime.bundle.build import Built
from runtime.bundle.index import FileEntry, Index
from runtime.bundle.materialise import INDEX_NAME
from runtime.digests import Digest
from runtime.errors import IntegrityError, InvalidError, ModelError
from runtime.inference import environment

BUNDLE, MODELS = "bundle", "models"
LARGE_BYTES = 256 * 1024
MAX_LARGE = 60
"""Images have at most 127 layers."""


@dataclass(frozen=True)
class Content:
    """A bundle whose files can be read."""

    index: Index
    index_bytes: bytes
    version: int
    """1 for a bundle that no registry has numbered."""
    open: Callable[[FileEntry], BinaryIO]
    """Gives a file's bytes, which are checked against the index as they are read."""

    @property
    def digest(self) -> Digest:
        """Of the bundle."""
        return digests.of_bytes(self.index_bytes)

    @property
    def requirements(self) -> tuple[str, ...]:
        """Of it and of every step of an ensemble."""
        steps = (step.index.requirements for step in self.index.steps)
        return tuple(dict.fromkeys(sum(steps, self.index.requirements)))


def of_built(built: Built, version: int = 1) -> Content:
    """Return a bundle that was built here."""
    return Content(
        built.index,
        built.index_bytes,
        version,
        lambda entry: built.files[entry.sha256].open("rb"),
    )


def of_directory(directory: Path, index_bytes: bytes, version: int) -> Content:
    """Return a bundle that was pulled into a directory."""
    found = index.decode(index_bytes)
    return Content(
        found,
        index_bytes,
        version,
        lambda entry: (directory / files.relative_path(entry.path, "files.path")).open("rb"),
    )


def write(content: Content, platform: Platform, sbom: Entry, directory: Path) -> list[Layer]:
    """Write the layers of a bundle to a directory, the steadiest first.

    Raises BuildError if a wheel of the bundle fits no such platform, IntegrityError if a file is
    not what the index says.
    """
    fitting = _fitting_wheels(content, platform)
    ordered = sorted(content.index.files, key=lambda each: (-each.size, each.sha256))
    large = [each for each in ordered if each.size >= LARGE_BYTES][:MAX_LARGE]
    small = ordered[len(large) :]
    written = [
        layers.write(directory / f"{number:02}-file.tar", [_entry(content, each)])
        for number, each in enumerate(large)
    ]
    if small:
        entries = [_entry(content, each) for each in small]
        written.append(layers.write(directory / "80-files.tar", entries))
    if fitting:
        unpacked = (entry for wheel in fitting for entry in _unpacked(content, wheel, directory))
        written.append(layers.write(directory / "81-wheels.tar", unpacked))
    written.append(layers.write(directory / "90-index.tar", [*_last(content), sbom]))
    return written


def _entry(content: Content, entry: FileEntry) -> Entry:
    return Entry(
        f"{BUNDLE}/{files.relative_path(entry.path, 'files.path')}",
        entry.size,
        lambda: io.BufferedReader(_Checked(content.open(entry), entry), digests.CHUNK_BYTES),
        executable=entry.executable,
    )


def _last(content: Content) -> Iterator[Entry]:
    yield layers.of_bytes(f"{BUNDLE}/{INDEX_NAME}", content.index_bytes)
    yield Entry(f"{MODELS}/{content.index.name}/{content.version}", link=f"/{BUNDLE}")


def _fitting_wheels(content: Content, platform: Platform) -> list[FileEntry]:
    """Return the wheels that the server would choose there."""
    paths = {entry.path: entry for entry in content.index.files}
    try:
        chosen = environment.choose(paths, platforms.wheel_tags(platform), platform.name)
    except ModelError as error:
        raise BuildError(str(error)) from error
    return [paths[path] for path in chosen]


def _unpacked(content: Content, wheel: FileEntry, scratch: Path) -> Iterator[Entry]:
    """Yield a wheel's files where the server would unpack them."""
    copy = scratch / "wheel.tmp"
    with _Checked(content.open(wheel), wheel) as source, copy.open("wb") as target:
        shutil.copyfileobj(source, target)
    prefix = f"{BUNDLE}/{environment.UNPACKED}/{PurePosixPath(wheel.path).stem}"
    try:
        with zipfile.ZipFile(copy) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    name = files.relative_path(member.filename, "wheel")
                    yield layers.of_bytes(f"{prefix}/{name}", archive.read(member))
    except (zipfile.BadZipFile, zlib.error, InvalidError) as error:
        raise BuildError(f"{wheel.path} is no wheel: {error}") from error
    finally:
        copy.unlink()


class _Checked(io.RawIOBase):
    """A file's bytes; raises IntegrityError behind the last if they are not the blob's."""

    def __init__(self, stream: BinaryIO, entry: FileEntry) -> None:
        super().__init__()
        self._stream, self._entry = stream, entry
        self._sha256, self._left = hashlib.sha256(), entry.size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._sha256.update(data)
        self._left -= len(data)
        whole = self._left == 0 and self._sha256.hexdigest() == self._entry.sha256
        if not whole and (self._left == 0 or not data):
            got = "too few bytes" if self._left else self._sha256.hexdigest()
            raise IntegrityError(self._entry.path, wanted=self._entry.sha256, got=got)
        return len(data)

    def close(self) -> None:
        self._stream.close()
        super().close()
