"""The check of a registered version: what it is asked, and what it must answer."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from cloud.client import Client
from cloud.client.blobs import Wanted
from runtime import digests, files
from runtime.bundle import index as bundle_index
from runtime.bundle.index import Check, Index
from runtime.errors import IntegrityError, InvalidError
from runtime.inference import check as checks
from runtime.inference import tensors
from runtime.inference.tensors import Arrays


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
    index = bundle_index.decode(content)
    check = index.check
    if check is None:
        raise InvalidError(
            "check",
            f"{found.model}:{found.version}",
            "it has none: give its bundle.yaml golden inputs and outputs, and push it again",
        )
    with tempfile.TemporaryDirectory(prefix="packhorse-") as name_of:
        directory = Path(name_of)
        _gather(registry, index, check, directory)
        given = checks.read_arrays(directory / check.inputs)
        inputs = tensors.conform(index.signature, given)
        outputs = None if check.outputs is None else checks.read_arrays(directory / check.outputs)
    return Golden(found.model, found.version, found.bundle, index, check, inputs, outputs)


def _gather(registry: Client, index: Index, check: Check, directory: Path) -> None:
    needed = {check.inputs, check.outputs}
    wanted = []
    for entry in index.files:
        if entry.path in needed:
            target = directory / files.relative_path(entry.path)
            files.make_directory(target.parent)
            wanted.append(Wanted(entry.sha256, entry.size, target, 0o600))
    registry.fetch_blobs(wanted)
