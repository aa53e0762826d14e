"""Whatever a person calls a model becomes a bundle directory.

a directory with bundle.yaml    is one
a directory with MLmodel        cloud.importing.mlflow
a file                          cloud.importing.barefile
"""

import contextlib
import tempfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from cloud.importing import barefile, drafts, mlflow, mlmodel
from runtime.bundle.source import SOURCE_NAME, read_source
from runtime.errors import InvalidError


@dataclass(frozen=True)
class Opened:
    """A bundle directory, and what we did to have one."""

    directory: Path
    written: str = ""
    """The bundle.yaml that was written for it; "": it had one."""
    notes: tuple[str, ...] = ()


@contextlib.contextmanager
def opened(path: Path, name: str | None, allow: Collection[str] = ()) -> Iterator[Opened]:
    """Give the bundle at `path`, made in a temporary directory if it is none yet.

    `name` is what the model shall be called if bundle.yaml is written; `allow` names what may be
    loaded here to learn what the model answers. Raises InvalidError saying what would be accepted.
    """
    if _is_bundle(path):
        if name is not None and (said := read_source(path).name) != name:
            raise InvalidError("name", name, f"its {SOURCE_NAME} says {said}: change it there")
        yield Opened(path)
        return
    with tempfile.TemporaryDirectory(prefix="packhorse-") as made:
        yield write(path, Path(made), name, allow)


def write(path: Path, target: Path, name: str | None, allow: Collection[str] = ()) -> Opened:
    """Make a bundle of an MLflow model directory or a model file, in the empty `target`."""
    if not path.exists():
        raise InvalidError("path", str(path), "there is nothing there")
    called = drafts.name_for(path, name)
    if path.is_dir():
        notes = mlflow.make(path, target, called, allow)
    else:
        notes = barefile.make(path, target, called)
    return Opened(target, (target / SOURCE_NAME).read_text(), tuple(notes))


def _is_bundle(path: Path) -> bool:
    """Say whether there is a bundle.yaml, or a directory that should have one."""
    if path.name == SOURCE_NAME:
        raise InvalidError("path", str(path), f"give the directory: {path.parent}")
    if not path.is_dir():
        return False
    return (path / SOURCE_NAME).exists() or not (path / mlmodel.FILE).exists()
