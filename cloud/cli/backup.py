"""`packhorse backup` and `packhorse restore`: for whoever owns the registry's directory.

The database and the store are found as `packhorse serve` finds them: PACKHORSE_DATABASE_URL,
PACKHORSE_BLOBS_URL.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cloud.cli import output
from runtime.errors import InvalidError
from runtime.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cloud.settings import Settings
    from runtime.digests import Digest

Data = Annotated[
    Path, typer.Option(help="The registry's directory.", envvar="PACKHORSE_DATA", show_envvar=True)
]
FAILED = 1


def backup(
    data: Data,
    target: Annotated[
        Path, typer.Option("--output", "-o", help="The file to write, e.g. registry.tar.zst.")
    ],
    *,
    blobs: Annotated[
        bool, typer.Option(help="Include the models' files; not where the store keeps its own.")
    ] = True,
) -> None:
    """Write everything that makes the registry into one file, while it runs.

    The file holds the CA's key: who has it can be the registry.
    """
    from cloud.backup import make

    made = make.make(_settings(data), target, blobs=blobs)
    size = f"{made.size_bytes / 1e6:.1f} MB"
    output.result(f"{target}: {counted(made.rows, 'row')}, {counted(made.blobs, 'blob')}, {size}")
    _tell_missing(made.missing)


def restore(
    source: Annotated[Path, typer.Argument(help="A file that `packhorse backup` wrote.")],
    data: Data,
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Lose the registry that is there now.")
    ] = False,
) -> None:
    """Make a registry out of a backup; no registry may run there."""
    from cloud.backup import restore as restoring

    done = restoring.restore(_settings(data), source, replace=replace)
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(done.created_at))
    held = f"{counted(done.rows, 'row')}, {counted(done.blobs, 'blob')}"
    output.result(f"{data}: the registry of {when}: {held}")
    told = counted(done.mended.devices, "device is told anew", "devices are told anew")
    output.say(f"{told}; unused enrolment tokens are void")
    _tell_missing(done.missing)


def _tell_missing(missing: "Sequence[Digest]") -> None:
    for digest in missing[:20]:
        output.say(f"missing: blob {digest}")
    if missing:
        lost = counted(len(missing), "blob is", "blobs are")
        output.say(f"{lost} in no store: push their versions again")
        raise typer.Exit(FAILED)


def _settings(data: Path) -> "Settings":
    import pydantic

    from cloud.settings import Settings

    try:
        return Settings(data=data)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidError(field, "(from the environment)", str(first["msg"])) from error
