"""The files of an export on disk: there is the old export, or the new one, never half of one.

All is written beside the directory first and then moved in its place. What lies in secrets/ is for
its owner alone.
"""

import os
import shutil
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path

from cloud.hosting.errors import RefusedError
from runtime import files as safely

MARKER = "kustomization.yaml"
SECRETS = "secrets"


def write(
    directory: Path, files: Mapping[str, bytes], missing: Collection[str] = ()
) -> tuple[str, ...]:
    """Write files by their names; return those of `missing` that somebody has to bring.

    The directory may be absent, empty, or an earlier export, which is replaced; of that one the
    missing files are kept. Raises RefusedError for any other directory.
    """
    require_ours(directory)
    names = {name: Path(safely.relative_path(name)) for name in (*files, *missing)}
    directory.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        os.chmod(made, 0o755)  # noqa: S103, PTH101 - manifests are for people; secrets/ is not
        for name, data in files.items():
            _write(made, names[name], data)
        left = []
        for name in missing:
            old = directory / names[name]
            if old.is_file():
                _write(made, names[name], old.read_bytes())
            else:
                left.append(name)
        _swap(made, directory)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return tuple(left)


def require_ours(directory: Path) -> None:
    """Raise RefusedError for a directory that is neither absent, empty nor an earlier export."""
    if not directory.exists():
        return
    if not directory.is_dir():
        raise RefusedError(f"export: {directory} is a file: name a directory")
    there = [path.name for path in directory.iterdir()]
    if there and MARKER not in there:
        raise RefusedError(
            f"export: {directory} has other files ({min(there)}): name an empty directory"
        )


def _write(root: Path, name: Path, data: bytes) -> None:
    private = name.parts[0] == SECRETS
    folder = root
    for part in name.parent.parts:
        folder = folder / part
        folder.mkdir(exist_ok=True)
        folder.chmod(0o700 if private else 0o755)
    mode = 0o600 if private else 0o644
    with os.fdopen(os.open(root / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)


def _swap(made: Path, directory: Path) -> None:
    if directory.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
        directory.rename(old / "old")
        made.rename(directory)
        shutil.rmtree(old)
    else:
        made.rename(directory)
