"""An ensemble's registered steps, fetched into it before it is built."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from cloud.cli import login
from runtime import files
from runtime.digests import Digest

if TYPE_CHECKING:
    from runtime.bundle.index import Uses


@contextlib.contextmanager
def gathered(directory: Path) -> "Iterator[tuple[Path, dict[str, Uses]]]":
    """Give a directory in which every step that is a registered version lies, and which it is.

    That is the author's own directory if there is no such step; else a copy beside which nothing
    is left. Raises AbsentError if there is no such version.
    """
    from cloud.cli import pulling
    from runtime.bundle.index import Uses
    from runtime.bundle.source import read_source

    steps = [step for step in read_source(directory).steps if step.use is not None]
    if not steps:
        yield directory, {}
        return
    uses: dict[str, Uses] = {}
    with tempfile.TemporaryDirectory(prefix="packhorse-") as scratch, login.client() as registry:
        place = Path(scratch) / directory.resolve().name
        shutil.copytree(directory, place, copy_function=_link)
        for step in steps:
            assert step.use is not None
            name, number = step.use
            target = place / step.directory
            files.remove(target)
            files.make_directory(target.parent, mode=0o755)
            found = pulling.pull(registry, name, str(number), target)
            uses[step.name] = Uses(found.model, found.version, Digest(found.bundle))
        yield place, uses


def _link(source: str, target: str) -> None:
    """Link a file, which is not going to be changed, or copy it from another file system."""
    try:
        os.link(Path(source).resolve(), target)
    except OSError:
        shutil.copyfile(source, target)
