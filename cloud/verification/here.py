"""A bundle's check in this process: what `packhorse models check` and a release begin with."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runtime.bundle import materialise
from runtime.bundle.blobs import BlobStore
from runtime.bundle.build import Built
from runtime.inference import check as checks
from runtime.inference.check import CheckResult
from runtime.inference.model import Model


@contextlib.contextmanager
def laid_out(built: Built) -> Iterator[Path]:
    """Give a bundle's files as a worker has them, in a directory that goes afterwards."""
    with tempfile.TemporaryDirectory(prefix="packhorse-") as scratch:
        blobs, target = BlobStore(Path(scratch) / "blobs"), Path(scratch) / "bundle"
        for digest, place in built.files.items():
            blobs.put_file(digest, place)
        materialise.materialise(built.index, built.index_bytes, blobs, target)
        yield target


def run(built: Built) -> CheckResult:
    """Load a bundle and run its check; a bundle without one passes.

    This runs the bundle's own code, if it has any. Raises ModelError if it does not load.
    """
    with laid_out(built) as directory:
        model = Model.load(directory, built.index)
        return checks.run_check(model, directory, built.index)
