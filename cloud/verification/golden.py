"""The check of a registered version: what it is asked, and what it must answer."""

import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cloud.client import Client
from cloud.client.blobs import Wanted
from runtime import digests, files
from runtime.bundle import index as bundle_index
from runtime.bundle.index import Check, FileEntry, Index
from runtime.errors import IntegrityError, InvalidError
from runtime.inference import check as checks
from runtime.inference import tensors
from runtime.inference.tensors import Arrays

MAX_ARRAYS_BYTES = 256 << 20
"""Of the arrays of one file of a check, unpacked."""


@dataclass(frozen=True)
class Version:
    """Which version a check is of."""

    model: str
    number: int
    bundle: str


@dataclass(frozen=True)
class Golden:
    """A version and its check, here."""

    model: str
    version: int
    bundle: str
    index: Index
    check: Check
    inputs: Arrays
    """As the model takes them."""
    outputs: Arrays | None
    """None: the check is content with any answer."""

    @property
    def name(self) -> str:
        """NAME:NUMBER."""
        return f"{self.model}:{self.version}"


def fetch(registry: Client, name: str, version: str) -> Golden:
    """Return a version's check; raise InvalidError if it has none."""
    found = registry.version(name, version)
    content = registry.index(name, str(found.version))
    if digests.of_bytes(content) != found.bundle:
        raise IntegrityError("index", wanted=found.bundle, got=digests.of_bytes(content))
    of = Version(found.model, found.version, found.bundle)
    return read(of, content, lambda entry, target: registry.fetch_blobs([_wanted(entry, target)]))


def read(of: Version, content: bytes, bring: Callable[[FileEntry, Path], None]) -> Golden:
    """Return the check of a version with this index; `bring` puts one of its files somewhere.

    Raises InvalidError if it has none, or its files are too large or cannot be read.
    """
    index = bundle_index.decode(content)
    check = index.check
    if check is None:
        raise InvalidError(
            "check",
            f"{of.model}:{of.number}",
            "it has none: give its bundle.yaml golden inputs and outputs, and push it again",
        )
    with tempfile.TemporaryDirectory(prefix="packhorse-") as directory:

        def arrays(path: str) -> Arrays:
            entry = next(each for each in index.files if each.path == path)
            target = Path(directory) / files.relative_path(path)
            files.make_directory(target.parent)
            bring(entry, target)
            _require_small(target)
            return checks.read_arrays(target)

        inputs = tensors.conform(index.signature, arrays(check.inputs))
        outputs = None if check.outputs is None else arrays(check.outputs)
    return Golden(of.model, of.number, of.bundle, index, check, inputs, outputs)


def _require_small(path: Path) -> None:
    """Raise InvalidError for arrays that would take more memory than a request may."""
    try:
        with zipfile.ZipFile(path) as found:
            size = sum(each.file_size for each in found.infolist())
    except (OSError, zipfile.BadZipFile) as error:
        raise InvalidError("check", path.name, f"it is no .npz file ({error})") from error
    if size > MAX_ARRAYS_BYTES:
        raise InvalidError("check", f"{size} bytes", f"give arrays of at most {MAX_ARRAYS_BYTES}")


def _wanted(entry: FileEntry, target: Path) -> Wanted:
    return Wanted(entry.sha256, entry.size, target, 0o600)
